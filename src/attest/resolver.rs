//! Resolves a key broker's host with the system's resolver, within a timeout.
//!
//! Names prove nothing: the server must still be the pinned one.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::server_url::ServerUrl;

/// Resolves one host, once, so that all calls of a handshake use the same addresses.
pub(super) struct ServerResolver {
    host: String,
    port: u16,
    found: Mutex<Vec<SocketAddr>>,
}

impl ServerResolver {
    pub(super) fn new(url: &ServerUrl) -> Self {
        Self { host: url.host().to_owned(), port: url.port(), found: Mutex::new(Vec::new()) }
    }

    /// Runs in a thread of its own, which is abandoned at the deadline: the system's resolver cannot be
    /// interrupted.
    fn look_up(&self, timeout: &NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let (sender, receiver) = sync_channel(1);
        let target = (self.host.clone(), self.port);
        let resolve = move || {
            // The receiver may be gone.
            let _late = sender.send(target.to_socket_addrs().map(Iterator::collect));
        };
        thread::Builder::new().stack_size(STACK).spawn(resolve)?;
        match receiver.recv_timeout(*timeout.after) {
            Ok(addresses) => Ok(addresses?),
            Err(RecvTimeoutError::Timeout) => Err(ureq::Error::Timeout(timeout.reason)),
            Err(RecvTimeoutError::Disconnected) => Err(ureq::Error::HostNotFound),
        }
    }
}

impl Resolver for ServerResolver {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let Ok(mut found) = self.found.lock() else { return Err(ureq::Error::HostNotFound) };
        if found.is_empty() {
            *found = self.look_up(&timeout)?;
        }
        let mut addresses = self.empty();
        found.iter().take(LIMIT).for_each(|address| addresses.push(*address));
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

impl fmt::Debug for ServerResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerResolver({}:{})", self.host, self.port)
    }
}

/// Addresses to try, as many as ureq accepts.
const LIMIT: usize = 16;
/// Bytes: the C library's resolver has buffers of some 10 KiB on its stack.
const STACK: usize = 512 << 10;
