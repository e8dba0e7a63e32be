//! Waits for the kernel's uevents about devices.
//!
//! An event only triggers another look; its content is not used. Open the listener before the first look, so
//! that no event is missed between the two.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{io, str};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg, socket,
};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something happened to a device that may matter.
    Event,
    /// The timeout expired.
    Timeout,
}

/// Waits for a reason to look again.
pub trait Wait {
    /// Blocks until something happens, for at most `timeout`.
    ///
    /// # Errors
    /// The operating system's.
    fn wait(&self, timeout: Duration) -> io::Result<Woken>;
}

impl<W: Wait + ?Sized> Wait for &W {
    fn wait(&self, timeout: Duration) -> io::Result<Woken> {
        (**self).wait(timeout)
    }
}

/// Calls `look` now and after each event, until it returns a value or `deadline` (from now) has passed.
/// Returns `None` if the last look found nothing.
///
/// # Errors
/// Those of `look`, and a failed wait.
pub fn wait_until<T, E: From<WaitError>>(
    wait: &(impl Wait + ?Sized),
    deadline: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let start = Instant::now();
    loop {
        if let Some(value) = look()? {
            return Ok(Some(value));
        }
        let left = deadline.saturating_sub(start.elapsed());
        if left.is_zero() || wait.wait(left).map_err(WaitError)? == Woken::Timeout {
            return Ok(None);
        }
    }
}

/// Waiting for a device failed.
#[derive(Debug, thiserror::Error)]
#[error("Waiting for the kernel's device events")]
pub struct WaitError(#[source] io::Error);

/// The kernel's uevents, for block devices and TPMs.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Subscribes. Events are queued from now on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open() -> Result<Self, WaitError> {
        let listener = || {
            let socket = socket(
                AddressFamily::Netlink,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::NetlinkKObjectUEvent,
            )?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
            Ok(Self(socket))
        };
        listener().map_err(|error: Errno| WaitError(error.into()))
    }

    /// Receives the next message. Returns how many bytes of `buffer` it has, or 0 if the kernel did not send
    /// it.
    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<NetlinkAddr>(self.0.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
        let kernel = message.address.is_some_and(|sender| sender.pid() == 0);
        Ok(if kernel { message.bytes } else { 0 })
    }
}

/// Takes the queued messages. Returns whether one of them matters.
fn drain(mut receive: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> io::Result<bool> {
    let mut relevant = false;
    let mut buffer = [0; MESSAGE_LIMIT];
    for _ in 0..BURST {
        match receive(&mut buffer) {
            Ok(length) => relevant |= buffer.get(..length).and_then(parse).is_some_and(Event::concerns_us),
            Err(Errno::EAGAIN) => break,
            Err(Errno::EINTR) => {}
            // The kernel could not keep up and dropped messages, perhaps one that matters.
            Err(Errno::ENOBUFS) => relevant = true,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(relevant)
}

impl Wait for Listener {
    fn wait(&self, timeout: Duration) -> io::Result<Woken> {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            let mut sockets = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut sockets, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) if PollTimeout::try_from(left).is_ok() => return Ok(Woken::Timeout),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) if drain(|buffer| self.receive(buffer))? => return Ok(Woken::Event),
                Ok(_) if timeout <= start.elapsed() => return Ok(Woken::Timeout),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Nothing ever happens: for another root directory, whose files all exist already.
#[derive(Clone, Copy, Debug)]
pub struct Stationary;

impl Wait for Stationary {
    fn wait(&self, _timeout: Duration) -> io::Result<Woken> {
        Ok(Woken::Timeout)
    }
}

/// The parts of an event that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Event<'a> {
    action: &'a str,
    subsystem: &'a str,
}

impl Event<'_> {
    fn concerns_us(self) -> bool {
        SUBSYSTEMS.contains(&self.subsystem) && self.action != "remove"
    }
}

/// Parses a message of the kernel: `ACTION@DEVPATH`, then `KEY=VALUE`, each with a final NUL
/// (kobject_uevent.c). `None` for anything else, such as udev's own messages, which start with `libudev`.
fn parse(message: &[u8]) -> Option<Event<'_>> {
    let mut fields = message.split(|byte| *byte == 0).map(str::from_utf8);
    fields.next()?.ok()?.split_once('@')?;
    let (mut action, mut subsystem) = (None, None);
    for field in fields {
        match field.ok()?.split_once('=') {
            Some(("ACTION", value)) => action = Some(value),
            Some(("SUBSYSTEM", value)) => subsystem = Some(value),
            _ => {}
        }
    }
    Some(Event { action: action?, subsystem: subsystem? })
}

/// Multicast group of the kernel's messages; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// The kernel's messages are at most 2 KiB of variables and a path (`UEVENT_BUFFER_SIZE`).
const MESSAGE_LIMIT: usize = 8192;
/// Messages taken at a time, so that a flood cannot outlast a deadline.
const BURST: usize = 1024;
const SUBSYSTEMS: [&str; 3] = ["block", "tpm", "tpmrm"];

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    /// As kernel 6.12 sends it for a partition, with fewer variables.
    const ADD: &[u8] = b"add@/devices/pci0000:00/0000:00:03.0/virtio1/block/vda/vda2\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio1/block/vda/vda2\0SUBSYSTEM=block\0MAJOR=254\0MINOR=2\0\
        DEVNAME=vda2\0DEVTYPE=partition\0SEQNUM=1234\0";

    #[test]
    fn new_disks_and_tpms_concern_us() {
        assert_eq!(parse(ADD), Some(Event { action: "add", subsystem: "block" }));
        assert!(parse(ADD).unwrap().concerns_us());
        assert!(parse(b"add@/devices/x/tpm/tpm0\0ACTION=add\0SUBSYSTEM=tpm\0").unwrap().concerns_us());
        assert!(parse(b"change@/devices/x\0ACTION=change\0SUBSYSTEM=block\0").unwrap().concerns_us());
    }

    #[test]
    fn other_devices_and_removals_do_not() {
        assert!(!parse(b"add@/devices/x\0ACTION=add\0SUBSYSTEM=net\0").unwrap().concerns_us());
        assert!(!parse(b"remove@/devices/x\0ACTION=remove\0SUBSYSTEM=block\0").unwrap().concerns_us());
    }

    #[test]
    fn messages_of_udev_are_not_the_kernels() {
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe\0ACTION=add\0SUBSYSTEM=block\0"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"add@/devices/x\0SUBSYSTEM=block\0"), None);
    }

    /// Receives these messages, then nothing more.
    fn receiving(messages: &[Result<&[u8], Errno>]) -> io::Result<bool> {
        let mut messages = messages.iter();
        drain(|buffer| {
            let message = (*messages.next().unwrap_or(&Err(Errno::EAGAIN)))?;
            buffer[..message.len()].copy_from_slice(message);
            Ok(message.len())
        })
    }

    #[test]
    fn a_relevant_message_among_others_is_a_reason_to_look_again() {
        let other: &[u8] = b"add@/devices/x\0ACTION=add\0SUBSYSTEM=net\0";
        assert!(!receiving(&[]).unwrap());
        assert!(!receiving(&[Ok(other), Ok(b""), Ok(other)]).unwrap());
        assert!(receiving(&[Ok(other), Err(Errno::EINTR), Ok(ADD), Ok(other)]).unwrap());
        assert!(receiving(&[Err(Errno::EBADF), Ok(ADD)]).is_err());
    }

    #[test]
    fn messages_that_the_kernel_dropped_are_a_reason_to_look_again() {
        assert!(receiving(&[Err(Errno::ENOBUFS)]).unwrap());
    }

    #[test]
    fn a_flood_of_messages_does_not_keep_us_from_looking_at_the_clock() {
        let mut received = 0;
        let flood = drain(|_| {
            received += 1;
            Ok(0)
        });
        assert_eq!((flood.unwrap(), received), (false, BURST));
    }

    /// Returns these results, then a timeout.
    struct Script(RefCell<Vec<Woken>>);

    impl Wait for Script {
        fn wait(&self, _timeout: Duration) -> io::Result<Woken> {
            Ok(self.0.borrow_mut().pop().unwrap_or(Woken::Timeout))
        }
    }

    #[test]
    fn what_is_there_already_costs_no_wait() {
        struct Never;
        impl Wait for Never {
            fn wait(&self, _timeout: Duration) -> io::Result<Woken> {
                panic!("waited")
            }
        }
        let found = wait_until(&Never, Duration::from_secs(9), || Ok::<_, WaitError>(Some(1)));
        assert_eq!(found.unwrap(), Some(1));
    }

    #[test]
    fn each_event_is_a_reason_to_look_again() {
        let script = Script(RefCell::new(vec![Woken::Event; 2]));
        let mut looks = 0;
        let found = wait_until(&script, Duration::from_secs(9), || {
            looks += 1;
            Ok::<_, WaitError>((looks == 3).then_some("there"))
        });
        assert_eq!((found.unwrap(), looks), (Some("there"), 3));
    }

    #[test]
    fn the_wait_ends_with_the_deadline() {
        let script = Script(RefCell::new(Vec::new()));
        let found = wait_until(&script, Duration::from_secs(9), || Ok::<Option<()>, WaitError>(None));
        assert_eq!(found.unwrap(), None);
    }

    #[test]
    fn the_kernels_socket_keeps_the_deadline() {
        let listener = Listener::open().unwrap();
        let start = Instant::now();
        while listener.wait(Duration::from_millis(50)).unwrap() == Woken::Event {}
        assert!(start.elapsed() >= Duration::from_millis(45));
    }

    proptest! {
        #[test]
        fn any_message_is_parsed_or_ignored(message: Vec<u8>) {
            let _ = parse(&message);
        }

        #[test]
        fn a_damaged_message_is_parsed_or_ignored(at in 0..ADD.len(), value: u8) {
            let mut message = ADD.to_vec();
            message[at] = value;
            let _ = parse(&message);
        }
    }
}
