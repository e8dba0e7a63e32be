//! The machine's network card and what is at the other end of its cable. QEMU records on the host's side of
//! the card, so nothing that left the guest is missing.

use std::path::Path;

/// What is at the other end of the cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// QEMU's own router: DHCP, router advertisements, name servers, and the host's loopback as 10.0.2.2 and
    /// fec0::2.
    User,
    /// The same without IPv4.
    Ipv6Only,
    /// Nobody: the link is up, and nothing ever answers.
    Nowhere,
}

impl Net {
    /// QEMU's options for a card that is recorded in `record`.
    pub fn options(self, record: &Path) -> Vec<String> {
        let peer = match self {
            Self::User => "user,id=net",
            Self::Ipv6Only => "user,id=net,ipv4=off",
            Self::Nowhere => NOWHERE,
        };
        [
            ["-netdev", peer].map(str::to_owned),
            // Without its boot ROM: the firmware does not start from it.
            ["-device".to_owned(), format!("virtio-net-pci,netdev=net,mac={MAC},romfile=")],
            ["-object".to_owned(), format!("filter-dump,id=record,netdev=net,file={}", record.display())],
        ]
        .concat()
    }
}

/// A cable to a port where nobody listens: what is sent is gone. (A hub without a second port would not take
/// a packet.)
const NOWHERE: &str = "dgram,id=net,local.type=inet,local.host=127.0.0.1,local.port=9001,\
     remote.type=inet,remote.host=127.0.0.1,remote.port=9002";
/// Locally administered, and no other card's here.
const MAC: &str = "52:54:00:c0:ff:ee";
/// The same as packets have it.
pub const MAC_BYTES: [u8; 6] = [0x52, 0x54, 0, 0xc0, 0xff, 0xee];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_is_recorded_whoever_is_at_the_other_end() {
        for net in [Net::User, Net::Ipv6Only, Net::Nowhere] {
            let options = net.options(Path::new("/x.pcap"));
            assert!(options.iter().any(|option| option == "filter-dump,id=record,netdev=net,file=/x.pcap"));
        }
        assert!(Net::Ipv6Only.options(Path::new("")).iter().any(|option| option.ends_with(",ipv4=off")));
    }
}
