//! Passes name servers that systemd-networkd learns later on to the resolver, while the network is in use. A
//! key broker with an address can be reached before any name server is known, but the next one may have a
//! name.

use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::name_servers;

/// A thread that looks repeatedly, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(super) fn start(root: &Path) -> io::Result<Self> {
        let root = root.to_owned();
        let (stop, stopped) = channel();
        let follow = move || {
            while stopped.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
                // If the file cannot be written, the resolver fails and reports it.
                let _unwritten = name_servers::known(&root);
            }
        };
        let thread = Builder::new().stack_size(STACK).spawn(follow)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It returns nothing.
            let _nothing = thread.join();
        }
    }
}

/// Bytes; the thread only reads small files.
const STACK: usize = 64 << 10;

/// How often to read the files with name servers, which the kernel's messages do not announce.
pub(super) const GLANCE: Duration = Duration::from_millis(250);
