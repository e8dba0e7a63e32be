//! The network, on demand: the servers that somebody wants to reach come in; that one of them can be reached, or what is
//! missing for that, goes out.
//!
//! In an initramfs a wish is written as a file; a path unit starts the network for it. Nothing of the network runs without
//! a wish. Whether it is there is asked of the kernel, by its routing decision, without a packet.
//!
//! Trust: addresses, routes and name servers are the host's words, and decide nothing but where packets go.

mod changes;
mod error;
mod follower;
mod name_servers;
mod outlook;
mod route;
mod tear_down;
mod wish;

use std::path::Path;
use std::time::{Duration, Instant};

pub use error::NetworkError;
pub use name_servers::{NameServer, of_networkd, of_resolv_conf};
pub use outlook::{Facts, Missing, Outlook};
pub use tear_down::tear_down;

use crate::attest::server::Server;
use changes::Changes;
use follower::Follower;
use route::Targets;
use wish::Wish;

/// The network, as long as somebody needs it: dropping it withdraws the wish. It is taken down before the root is switched.
#[derive(Debug)]
pub struct Network {
    _follower: Option<Follower>,
    _wish: Option<Wish>,
}

impl Network {
    /// Waits until one of `servers` can be reached, at most until `until`. In an initramfs, asks for the network first, unless
    /// it is there, and does `meanwhile` what can be done without. `root` stands for `/`.
    ///
    /// # Errors
    /// `network-unavailable` at the deadline, `network-failed` where the system refuses.
    pub fn bring_up(
        root: &Path,
        servers: &[Server],
        until: Instant,
        meanwhile: impl FnOnce(),
    ) -> Result<Self, NetworkError> {
        let started = Instant::now();
        let targets = Targets::of(root, servers);
        // Before the first look, so that nothing falls between the two.
        let changes = Changes::open().map_err(NetworkError::Listen)?;
        if targets.facts()?.outlook() == Outlook::Ready {
            return Ok(Self { _follower: None, _wish: None });
        }
        let wish = Wish::write(root).map_err(NetworkError::Ask)?;
        log::info!("{}", if wish.is_some() { "The network is asked for" } else { "Waiting for the network" });
        meanwhile();
        loop {
            match targets.facts()?.outlook() {
                Outlook::Ready => break,
                Outlook::Missing(missing) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(NetworkError::Unavailable(missing));
                    }
                    changes.wait(left.min(GLANCE)).map_err(NetworkError::Listen)?;
                }
            }
        }
        log::info!("The network is there after {:.2} s", started.elapsed().as_secs_f64());
        let follower = (targets.has_names() && wish.is_some()).then(|| Follower::start(root)).transpose();
        Ok(Self { _follower: follower.map_err(NetworkError::NameServers)?, _wish: wish })
    }
}

/// Whether the network is wanted and none of `servers` can be reached yet: whether another attempt at it makes sense.
///
/// # Errors
/// `network-failed`
pub fn is_missing(root: &Path, servers: &[Server]) -> Result<bool, NetworkError> {
    let wanted = root.join(FOLDER).join(wish::NAME).exists();
    Ok(wanted && Targets::of(root, servers).facts()?.outlook() != Outlook::Ready)
}

/// Name servers come by a file, of which the kernel's messages say nothing: this often it is read.
const GLANCE: Duration = Duration::from_millis(250);
/// Where we leave things of this boot.
const FOLDER: &str = "run/cvm-unlock";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use serde_json::json;

    fn server(url: &str) -> Server {
        serde_json::from_value(json!({"url": url, "spki": "5a".repeat(32)})).unwrap()
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
        let servers = [server("https://kbs.invalid"), server("https://127.0.0.1")];
        Network::bring_up(root.path(), &servers, Instant::now(), || ()).unwrap();
        assert!(!root.path().join("run").exists());
    }

    #[test]
    fn a_name_without_a_name_server_ends_at_the_deadline() {
        let root = root(&[("etc/initrd-release", ""), ("etc/resolv.conf", "search example\n")]);
        let error =
            Network::bring_up(root.path(), &[server("https://kbs.invalid")], soon(), || ()).unwrap_err();
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
        let mut done = false;
        let network =
            Network::bring_up(root.path(), &[server("https://kbs.invalid")], until, || done = true).unwrap();
        starter.join().unwrap();
        assert!(done, "nothing was done meanwhile");
        assert!(wish.exists() && !is_missing(root.path(), &[server("https://kbs.invalid")]).unwrap());
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
        let written = root.path().join(FOLDER).join(name_servers::NAME);
        while !written.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(std::fs::read_to_string(written).unwrap().starts_with("nameserver 192.0.2.1\n"));
        drop(follower);
    }

    #[test]
    fn the_network_is_missing_while_it_is_wanted_and_leads_nowhere() {
        let root = root(&[("etc/initrd-release", ""), ("etc/resolv.conf", "")]);
        let missing = |url: &str| is_missing(root.path(), &[server(url)]).unwrap();
        assert!(!missing("https://kbs.invalid"));
        let wish = Wish::write(root.path()).unwrap();
        assert!(missing("https://kbs.invalid") && !missing("https://127.0.0.1"));
        drop(wish);
        assert!(!missing("https://kbs.invalid"));
    }

    #[test]
    fn a_running_system_is_not_asked_for_its_network() {
        let root = root(&[]);
        Network::bring_up(root.path(), &[server("https://kbs.invalid")], soon(), || ()).unwrap_err();
        assert!(!root.path().join("run").exists());
    }
}
