//! Waits for changes of links, addresses and routes. The kernel's messages only trigger another look; their
//! content is not used.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// A subscription to the kernel's messages.
#[derive(Debug)]
pub(super) struct Changes(OwnedFd);

impl Changes {
    /// Subscribes. Messages are queued from now on.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Returns when something has changed or `timeout` has passed; may return early.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut sockets = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut sockets, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => Ok(()),
            Ok(_) => self.drain(),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the queued messages.
    fn drain(&self) -> io::Result<()> {
        let mut buffer = [0; MESSAGE_LIMIT];
        for _ in 0..BURST {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // The kernel could not keep up and dropped messages, which also means that something changed.
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE`
/// (linux/rtnetlink.h).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Longer messages are truncated, which does no harm: their content is not used.
const MESSAGE_LIMIT: usize = 512;
/// Messages taken at a time, so that a flood cannot outlast a deadline.
const BURST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_wait_ends_and_its_messages_are_taken_whatever_changes_meanwhile() {
        let changes = Changes::open().unwrap();
        let started = Instant::now();
        let timeout = Duration::from_millis(50);
        // Other tests and processes may change something meanwhile.
        while started.elapsed() < timeout {
            changes.wait(timeout.saturating_sub(started.elapsed())).unwrap();
        }
        changes.drain().unwrap();
    }
}
