//! Where key brokers are, as the guest sees them. The measured configurations name these addresses, so they
//! are constants, however many scenarios run at once.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The port of the server that images name first.
pub const FIRST: u16 = 8443;
/// The port of the server that images name second.
pub const SECOND: u16 = 9443;
/// The key broker's name.
pub const NAME: &str = "kbs.test";
/// The host's loopback, which QEMU's router shows to the guest.
pub const IPV4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The same in IPv6.
pub const IPV6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);

/// How images name the first server: by its address.
pub fn first_url() -> String {
    format!("https://{IPV4}:{FIRST}")
}

/// How images name the second server: by its name.
pub fn second_url() -> String {
    format!("https://{NAME}:{SECOND}")
}
