//! Removes an interface's IPv4 address, and takes interfaces down.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::Result;
use nix::errno::Errno;
use nix::libc::{self, c_char, c_short, ifreq, sockaddr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Removes the first IPv4 address with this label: the interface's name, or the name, a colon and more.
///
/// # Errors
/// The kernel's.
pub fn clear_address(label: &str) -> Result<()> {
    let socket = any_socket()?;
    // Setting 0.0.0.0 removes an address.
    let request = request(label)?;
    // SAFETY: SIOCSIFADDR reads a name and a socket address from an ifreq (netdevice(7)); `request` sets
    // both, the name ends with NUL, and the value lives until the call returns.
    unsafe { set_address(socket.as_raw_fd(), &raw const request) }.map(drop)
}

/// Takes an interface down, upon which the kernel removes its routes and IPv6 addresses.
///
/// # Errors
/// The kernel's.
pub fn set_down(name: &str) -> Result<()> {
    let socket = any_socket()?;
    let mut request = request(name)?;
    // SAFETY: SIOCGIFFLAGS reads a name from an ifreq and writes flags into it (netdevice(7)); the name ends
    // with NUL, and `request` lives until the call returns.
    unsafe { get_flags(socket.as_raw_fd(), &raw mut request) }?;
    // SAFETY: the successful call above wrote this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = c_short::try_from(libc::IFF_UP).map_err(|_| Errno::EINVAL)?;
    request.ifr_ifru.ifru_flags = flags & !up;
    // SAFETY: SIOCSIFFLAGS reads a name and flags from an ifreq; both are set, as above.
    unsafe { set_flags(socket.as_raw_fd(), &raw const request) }.map(drop)
}

/// A socket for the ioctls, which work on any of the family.
fn any_socket() -> Result<OwnedFd> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
}

/// A request for the interface `name`, with the address 0.0.0.0.
fn request(name: &str) -> Result<ifreq> {
    let mut field = [0; libc::IFNAMSIZ];
    // The last byte stays NUL.
    if name.len() >= field.len() {
        return Err(Errno::ENODEV);
    }
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    let family = libc::sa_family_t::try_from(libc::AF_INET).map_err(|_| Errno::EINVAL)?;
    let nowhere = sockaddr { sa_family: family, sa_data: [0; 14] };
    Ok(ifreq { ifr_name: field, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_addr: nowhere } })
}

nix::ioctl_write_ptr_bad!(
    /// Sets an address.
    set_address,
    libc::SIOCSIFADDR,
    ifreq
);
nix::ioctl_readwrite_bad!(
    /// Reads flags.
    get_flags,
    libc::SIOCGIFFLAGS,
    ifreq
);
nix::ioctl_write_ptr_bad!(
    /// Sets flags.
    set_flags,
    libc::SIOCSIFFLAGS,
    ifreq
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_are_not_there_cannot_be_changed() {
        for name in ["none-such", "a-name-that-is-too-long", ""] {
            assert!(set_down(name).is_err() && clear_address(name).is_err(), "{name}");
        }
    }
}
