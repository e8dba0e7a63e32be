//! Finds name servers in the files of systemd-networkd and NetworkManager.
//!
//! networkd passes name servers to systemd-resolved, which is not in the initramfs. So we take them from its
//! state file and write `run/cvm-unlock/resolv.conf`, to which the initramfs's `/etc/resolv.conf` points.
//! NetworkManager writes a file of its own.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;

use super::wish::FOLDER;

/// A name server: an address, with its link if it is link-local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    address: IpAddr,
    scope: Option<String>,
}

impl NameServer {
    /// Parses an address, with `%` and a link if it is link-local.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address.parse().ok()?, Some(scope)),
            None => (text.parse().ok()?, None),
        };
        let plain = |scope: &str| {
            (1..=15).contains(&scope.len())
                && scope.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match (address, scope) {
            (IpAddr::V6(v6), Some(scope)) if v6.is_unicast_link_local() && plain(scope) => {
                Some(Self { address, scope: Some(scope.to_owned()) })
            }
            (_, None) if !address.is_unspecified() && !address.is_multicast() => {
                Some(Self { address, scope: None })
            }
            _ => None,
        }
    }

    /// Parses networkd's form, which may have port 53 (the default) and the name of a certificate. `link` is
    /// the link of a link-local address.
    fn of_networkd(text: &str, link: u32) -> Option<Self> {
        let (text, _name) = text.split_once('#').unwrap_or((text, ""));
        let server = Self::parse(text).or_else(|| {
            let address: SocketAddr = text.parse().ok()?;
            (address.port() == 53).then(|| Self::parse(&address.ip().to_string()))?
        })?;
        let link_local = matches!(server.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let scope = server.scope.or_else(|| link_local.then(|| link.to_string()));
        Some(Self { address: server.address, scope })
    }

    /// The socket address; `None` if its link does not exist.
    pub(super) fn socket_address(&self, index: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
        match (self.address, &self.scope) {
            (IpAddr::V6(v6), Some(scope)) => Some(SocketAddrV6::new(v6, 53, 0, index(scope)?).into()),
            (address, _) => Some(SocketAddr::new(address, 53)),
        }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.scope.iter().try_for_each(|scope| write!(f, "%{scope}"))
    }
}

/// The name servers of link number `link`, from networkd's state file (`DNS=`, separated by spaces).
#[must_use]
pub fn of_networkd(state: &str, link: u32) -> Vec<NameServer> {
    let lines = state.lines().filter_map(|line| line.strip_prefix("DNS="));
    lines
        .flat_map(str::split_ascii_whitespace)
        .filter_map(|text| NameServer::of_networkd(text, link))
        .take(LIMIT)
        .collect()
}

/// The name servers in a resolver's configuration, resolv.conf(5).
#[must_use]
pub fn of_resolv_conf(text: &str) -> Vec<NameServer> {
    let words = text.lines().map(str::split_ascii_whitespace);
    words
        .filter_map(|mut words| words.next().filter(|word| *word == "nameserver").and(words.next()))
        .filter_map(NameServer::parse)
        .take(LIMIT)
        .collect()
}

/// A resolver's configuration with these name servers. Its timeout is shorter than the default of 5 s, which
/// is all the time that connecting has.
fn resolv_conf(servers: &[NameServer]) -> String {
    let lines = servers.iter().map(|server| format!("nameserver {server}\n"));
    lines.chain([OPTIONS.to_owned()]).collect()
}

/// The name servers that the resolver will use. Passes networkd's on to it first, if there are any.
pub(super) fn known(root: &Path) -> io::Result<Vec<NameServer>> {
    let own = root.join(FOLDER);
    let found = networkds(&root.join("run/systemd/netif/links"));
    if !found.is_empty() && root.join("etc/initrd-release").exists() {
        let (path, text) = (own.join(NAME), resolv_conf(&found));
        if read(&path).as_deref() != Some(&text) {
            let temporary = own.join(".resolv.conf.new");
            fs::create_dir_all(&own)?;
            fs::write(&temporary, text)?;
            fs::rename(temporary, path)?;
        }
    }
    Ok(of_resolv_conf(&read(&root.join("etc/resolv.conf")).unwrap_or_default()))
}

/// The name servers of all links, in the order of the links.
fn networkds(folder: &Path) -> Vec<NameServer> {
    let entries = folder.read_dir().into_iter().flatten().flatten().take(LINKS);
    let mut links: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    links.sort_unstable();
    let states = links.iter().filter_map(|link| Some((read(&folder.join(link.to_string()))?, *link)));
    states.flat_map(|(state, link)| of_networkd(&state, link)).take(LIMIT).collect()
}

/// A small text file.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(SIZE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// In the folder of the request.
pub(super) const NAME: &str = "resolv.conf";
const OPTIONS: &str = "options timeout:2 attempts:2\n";
/// Name servers: as many as a resolver uses (`MAXNS`).
const LIMIT: usize = 3;
/// Limit of links to check.
const LINKS: usize = 256;
/// Limit of bytes to read from a file.
const SIZE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As systemd 257 writes it for QEMU's user network.
    const STATE: &str = "# This is private data. Do not parse.\nADMIN_STATE=configured\nOPER_STATE=routable\n\
        REQUIRED_FOR_ONLINE=yes\nNETWORK_FILE=/etc/systemd/network/90-cvm-unlock.network\nDNS=10.0.2.3 fec0::3\n\
        NTP=\nSIP=\nDOMAINS=\n";

    fn shown(servers: &[NameServer]) -> Vec<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn networkds_name_servers_are_taken_by_address() {
        assert_eq!(shown(&of_networkd(STATE, 2)), ["10.0.2.3", "fec0::3"]);
        let others = "DNS=192.0.2.1:53 fe80::1 fe80::2%ens3 [2001:db8::1]:53#dns.example\n";
        assert_eq!(shown(&of_networkd(others, 7)), ["192.0.2.1", "fe80::1%7", "fe80::2%ens3"]);
        assert_eq!(shown(&of_networkd("DNS=[2001:db8::1]:53#dns.example", 7)), ["2001:db8::1"]);
    }

    #[test]
    fn what_is_no_address_is_passed_over() {
        for nothing in [
            "",
            "DNS=",
            "DNS=dns.example",
            "XDNS=192.0.2.1",
            "DNS=192.0.2.1:54",
            "DNS=0.0.0.0 :: 224.0.0.1 ff02::1",
            "DNS=192.0.2.1%ens3 2001:db8::1%ens3",
            "DNS=fe80::1% fe80::1%a/b fe80::1%0123456789abcdef",
        ] {
            assert_eq!(of_networkd(nothing, 2), [], "{nothing}");
        }
        assert_eq!(of_resolv_conf("#nameserver 192.0.2.1\nnameserver\nsearch 192.0.2.1\nnameserver x"), []);
    }

    #[test]
    fn no_more_are_taken_than_a_resolver_looks_at() {
        let many = "DNS=192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4";
        assert_eq!(of_networkd(many, 2).len(), 3);
        assert_eq!(of_resolv_conf(&"nameserver 192.0.2.1\n".repeat(4)).len(), 3);
    }

    #[test]
    fn networkds_name_servers_become_the_resolvers() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["run/systemd/netif/links", "etc"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let etc = root.path().join("etc");
        fs::write(etc.join("initrd-release"), "").unwrap();
        std::os::unix::fs::symlink("../run/cvm-unlock/resolv.conf", etc.join("resolv.conf")).unwrap();
        assert_eq!(known(root.path()).unwrap(), []);
        let links = root.path().join("run/systemd/netif/links");
        fs::write(links.join("10"), "DNS=192.0.2.1\n").unwrap();
        fs::write(links.join("2"), "DNS=fe80::1\n").unwrap();
        fs::write(links.join(".#2"), "DNS=192.0.2.7\n").unwrap();
        assert_eq!(shown(&known(root.path()).unwrap()), ["fe80::1%2", "192.0.2.1"]);
        let written = fs::read_to_string(root.path().join("run/cvm-unlock/resolv.conf")).unwrap();
        assert_eq!(written, "nameserver fe80::1%2\nnameserver 192.0.2.1\noptions timeout:2 attempts:2\n");
    }

    #[test]
    fn a_running_systems_resolver_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let links = root.path().join("run/systemd/netif/links");
        fs::create_dir_all(&links).unwrap();
        fs::write(links.join("2"), "DNS=192.0.2.1\n").unwrap();
        assert_eq!(known(root.path()).unwrap(), []);
        assert!(!root.path().join("run/cvm-unlock").exists());
    }

    proptest! {
        #[test]
        fn any_state_gives_addresses_that_are_read_back(text in "(DNS=|nameserver )?[0-9a-f.:%#\\[\\] \\n]{0,60}|.{0,40}", link: u32) {
            let servers = of_networkd(&text, link);
            prop_assert!(servers.len() <= LIMIT);
            prop_assert_eq!(of_resolv_conf(&resolv_conf(&servers)), servers);
            prop_assert!(of_resolv_conf(&text).len() <= LIMIT);
        }
    }
}
