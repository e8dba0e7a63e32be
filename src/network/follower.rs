//! Name servers that come after the route: while somebody uses the network, what systemd-networkd learns goes on to the
//! resolver. A server with an address can be reached before any name server is known, and the next server may have a name.

use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::name_servers;

/// A thread that looks again and again, until it is dropped.
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
                // Where it cannot be written, the resolver finds nobody and says so.
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
            // It has nothing to say.
            let _nothing = thread.join();
        }
    }
}

/// Bytes: it reads small files.
const STACK: usize = 64 << 10;

/// Name servers come by a file, of which the kernel's messages say nothing: this often it is read.
pub(super) const GLANCE: Duration = Duration::from_millis(250);
