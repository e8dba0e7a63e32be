//! Checks which key brokers and name servers the kernel can route to. A `connect(2)` of a UDP socket takes
//! the kernel's routing decision, source address included, without sending a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use nix::net::if_::if_nametoindex;

use super::endpoint::Endpoint;
use super::error::NetworkError;
use super::name_servers;
use super::name_servers::NameServer;
use super::outlook::Facts;

/// The endpoints to reach.
#[derive(Debug)]
pub(super) struct Targets {
    root: PathBuf,
    addresses: Vec<SocketAddr>,
    named: bool,
}

impl Targets {
    pub(super) fn of(root: &Path, endpoints: &[Endpoint]) -> Self {
        let address = |endpoint: &Endpoint| {
            endpoint.host.parse().ok().map(|address: IpAddr| SocketAddr::new(address, endpoint.port))
        };
        let addresses: Vec<_> = endpoints.iter().filter_map(address).collect();
        Self { root: root.to_owned(), named: addresses.len() < endpoints.len(), addresses }
    }

    /// Whether one of them has a name.
    pub(super) fn has_names(&self) -> bool {
        self.named
    }

    /// Collects the facts of this moment.
    pub(super) fn facts(&self) -> Result<Facts, NetworkError> {
        let name_servers = if self.named {
            name_servers::known(&self.root).map_err(NetworkError::NameServers)?
        } else {
            Vec::new()
        };
        Ok(Facts {
            card: has_card(&self.root),
            server: self.addresses.iter().copied().any(can_route),
            named: self.named,
            name_server: !name_servers.is_empty(),
            resolver: name_servers
                .iter()
                .filter_map(|server| NameServer::socket_address(server, index))
                .any(can_route),
        })
    }
}

/// Whether the kernel has a route to `address` and a source address for it.
fn can_route(address: SocketAddr) -> bool {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

/// The number of an interface, from its name or its number.
fn index(scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| if_nametoindex(scope).ok())
}

/// Whether there is a network card: an interface with a device behind it.
fn has_card(root: &Path) -> bool {
    let entries = root.join("sys/class/net").read_dir();
    entries.into_iter().flatten().flatten().take(LIMIT).any(|entry| entry.path().join("device").exists())
}

/// Limit of interfaces to check.
const LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_routes_to_this_machine_and_not_to_nowhere() {
        assert!(can_route(SocketAddr::from((Ipv4Addr::LOCALHOST, 443))));
        // A link-local address needs the number of a link, and no link has this one.
        assert!(!can_route("[fe80::1%2147483646]:443".parse().unwrap()));
    }

    #[test]
    fn a_card_is_an_interface_with_a_device() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_card(root.path()));
        std::fs::create_dir_all(root.path().join("sys/class/net/lo")).unwrap();
        assert!(!has_card(root.path()));
        std::fs::create_dir_all(root.path().join("sys/class/net/ens3/device")).unwrap();
        assert!(has_card(root.path()));
    }

    #[test]
    fn links_are_named_or_numbered() {
        assert_eq!((index("7"), index("lo"), index("none-such")), (Some(7), if_nametoindex("lo").ok(), None));
    }
}
