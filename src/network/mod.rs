//! Brings the network up on demand.
//!
//! In an initramfs we write a file, upon which a path unit starts the network; no network service runs
//! before. The kernel's routing decision shows whether an endpoint can be reached, without sending a packet.
//! Addresses, routes and name servers are untrusted: they only decide where packets go.

mod changes;
mod endpoint;
mod error;
mod follower;
mod name_servers;
mod outlook;
mod route;
mod tear_down;
mod wish;

use std::path::{Path, PathBuf};
use std::time::Instant;

pub use endpoint::Endpoint;
pub use error::NetworkError;
pub use name_servers::{NameServer, of_networkd, of_resolv_conf};
pub use outlook::{Facts, Missing, Outlook};
pub use tear_down::tear_down;

use changes::Changes;
use follower::Follower;
use follower::GLANCE;
use route::Targets;
use wish::Wish;

/// The network while it is needed. Dropping this withdraws the request; the network is taken down before the
/// root is switched.
#[derive(Debug)]
pub struct Network {
    _follower: Option<Follower>,
    _wish: Option<Wish>,
}

/// A network that was requested and may not be up yet.
#[derive(Debug)]
pub struct Asked {
    root: PathBuf,
    targets: Targets,
    changes: Changes,
    wish: Option<Wish>,
    ready: bool,
    started: Instant,
}

impl Asked {
    /// Checks whether one of `endpoints` can be reached, and requests the network if not, in an initramfs.
    /// `root` stands for `/`.
    ///
    /// # Errors
    /// `network-failed` if the system refuses.
    pub fn for_one_of(root: &Path, endpoints: &[Endpoint]) -> Result<Self, NetworkError> {
        let started = Instant::now();
        let targets = Targets::of(root, endpoints);
        // Subscribed before the first look, so that no change is missed between the two.
        let changes = Changes::open().map_err(NetworkError::Listen)?;
        let ready = targets.facts()?.outlook() == Outlook::Ready;
        let wish = if ready { None } else { Wish::write(root).map_err(NetworkError::Ask)? };
        if !ready {
            log::info!(
                "{}",
                if wish.is_some() { "The network is asked for" } else { "Waiting for the network" }
            );
        }
        Ok(Self { root: root.to_owned(), targets, changes, wish, ready, started })
    }

    /// Whether there is no need to wait.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Waits for the network, at most until `until`.
    ///
    /// # Errors
    /// `network-unavailable` at the deadline, `network-failed` if the system refuses.
    pub fn wait(self, until: Instant) -> Result<Network, NetworkError> {
        let Self { root, targets, changes, wish, ready, started } = self;
        if ready {
            return Ok(Network { _follower: None, _wish: None });
        }
        while let Outlook::Missing(missing) = targets.facts()?.outlook() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NetworkError::Unavailable(missing));
            }
            changes.wait(left.min(GLANCE)).map_err(NetworkError::Listen)?;
        }
        log::info!("The network is there after {:.2} s", started.elapsed().as_secs_f64());
        let follower = (targets.has_names() && wish.is_some()).then(|| Follower::start(&root)).transpose();
        Ok(Network { _follower: follower.map_err(NetworkError::NameServers)?, _wish: wish })
    }
}

/// Whether the network was requested but none of `endpoints` can be reached yet, so that another attempt to
/// start it makes sense.
///
/// # Errors
/// `network-failed`
pub fn is_missing(root: &Path, endpoints: &[Endpoint]) -> Result<bool, NetworkError> {
    let wanted = root.join(wish::FOLDER).join(wish::NAME).exists();
    Ok(wanted && Targets::of(root, endpoints).facts()?.outlook() != Outlook::Ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use std::time::Duration;

    fn at(host: &str) -> Endpoint {
        Endpoint { host: host.to_owned(), port: 443 }
    }

    fn wait(root: &Path, endpoints: &[Endpoint], until: Instant) -> Result<Network, NetworkError> {
        Asked::for_one_of(root, endpoints)?.wait(until)
    }

    /// A root directory with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[test]
    fn what_can_be_reached_is_neither_waited_nor_asked_for() {
        let root = root(&[("etc/initrd-release", "")]);
        let servers = [at("kbs.invalid"), at("127.0.0.1")];
        assert!(Asked::for_one_of(root.path(), &servers).unwrap().is_ready());
        wait(root.path(), &servers, Instant::now()).unwrap();
        assert!(!root.path().join("run").exists());
    }

    #[test]
    fn a_name_without_a_name_server_ends_at_the_deadline() {
        let root = root(&[("etc/initrd-release", ""), ("etc/resolv.conf", "search example\n")]);
        let error = wait(root.path(), &[at("kbs.invalid")], soon()).unwrap_err();
        assert_eq!(error.slug(), "network-unavailable");
    }

    #[test]
    fn the_wish_is_there_while_somebody_waits_and_gone_afterwards() {
        let root = root(&[("etc/initrd-release", ""), ("etc/resolv.conf", "")]);
        let wish = root.path().join("run/cvm-unlock/network-wanted");
        let (path, resolv_conf) = (wish.clone(), root.path().join("etc/resolv.conf"));
        let starter = std::thread::spawn(move || {
            while !path.exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::fs::write(resolv_conf, "nameserver 127.0.0.1\n").unwrap();
        });
        let until = Instant::now() + Duration::from_secs(60);
        let asked = Asked::for_one_of(root.path(), &[at("kbs.invalid")]).unwrap();
        assert!(!asked.is_ready() && wish.exists(), "asked for before anybody waits");
        let network = asked.wait(until).unwrap();
        starter.join().unwrap();
        assert!(wish.exists() && !is_missing(root.path(), &[at("kbs.invalid")]).unwrap());
        drop(network);
        assert!(!wish.exists());
    }

    #[test]
    fn name_servers_that_come_after_the_route_are_followed_while_the_network_is_used() {
        let root = root(&[("etc/initrd-release", ""), ("etc/resolv.conf", "nameserver 127.0.0.1\n")]);
        let follower = Follower::start(root.path()).unwrap();
        let links = root.path().join("run/systemd/netif/links");
        std::fs::create_dir_all(&links).unwrap();
        std::fs::write(links.join("2"), "DNS=192.0.2.1\n").unwrap();
        let written = root.path().join(wish::FOLDER).join(name_servers::NAME);
        while !written.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(std::fs::read_to_string(written).unwrap().starts_with("nameserver 192.0.2.1\n"));
        drop(follower);
    }

    #[test]
    fn the_network_is_missing_while_it_is_wanted_and_leads_nowhere() {
        let root = root(&[("etc/initrd-release", ""), ("etc/resolv.conf", "")]);
        let missing = |host: &str| is_missing(root.path(), &[at(host)]).unwrap();
        assert!(!missing("kbs.invalid"));
        let wish = Wish::write(root.path()).unwrap();
        assert!(missing("kbs.invalid") && !missing("127.0.0.1"));
        drop(wish);
        assert!(!missing("kbs.invalid"));
    }

    #[test]
    fn a_running_system_is_not_asked_for_its_network() {
        let root = root(&[]);
        wait(root.path(), &[at("kbs.invalid")], soon()).unwrap_err();
        assert!(!root.path().join("run").exists());
    }
}
