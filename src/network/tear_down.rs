//! Takes the network down before the root is switched. Afterwards no interface has an address or is up, and
//! no file of ours or of the network's services is left.

use std::path::Path;
use std::{fs, io};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::error::NetworkError;
use super::wish::FOLDER;
use super::{name_servers, wish};
use crate::sys::interface;

/// Removes all IPv4 addresses and takes all interfaces down except loopback, upon which the kernel removes
/// routes and IPv6 addresses. A failed step does not stop the others.
///
/// # Errors
/// The first step that failed.
pub fn tear_down(root: &Path) -> Result<(), NetworkError> {
    let interfaces = interfaces();
    let files = files(root);
    interfaces.and(files).map_err(NetworkError::TearDown)
}

fn interfaces() -> io::Result<()> {
    let cleared = addresses();
    set_down().and(cleared)
}

/// Removes IPv4 addresses one by one. An interface's addresses share its label, and each call removes the
/// first.
fn addresses() -> io::Result<()> {
    for _ in 0..ADDRESSES {
        let Some(label) = labels()?.into_iter().next() else { break };
        interface::clear_address(&label)?;
    }
    Ok(())
}

fn set_down() -> io::Result<()> {
    let mut outcome = Ok(());
    let mut names: Vec<_> = others()?.map(|address| address.interface_name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        outcome = outcome.and(interface::set_down(&name).map_err(io::Error::from));
    }
    outcome
}

/// Labels of interfaces that have an IPv4 address.
fn labels() -> io::Result<Vec<String>> {
    let with_address = others()?.filter(|interface| {
        interface.address.as_ref().is_some_and(|address| address.as_sockaddr_in().is_some())
    });
    Ok(with_address.map(|interface| interface.interface_name).collect())
}

fn others() -> io::Result<impl Iterator<Item = nix::ifaddrs::InterfaceAddress>> {
    Ok(getifaddrs()?.filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)))
}

/// Removes the files below `/run` that the booted system would see.
fn files(root: &Path) -> io::Result<()> {
    let own = [wish::NAME, name_servers::NAME].map(|name| fs::remove_file(root.join(FOLDER).join(name)));
    let services = SERVICES.map(|folder| fs::remove_dir_all(root.join(folder)));
    let failed = |removed: &io::Result<()>| {
        removed.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
    };
    own.into_iter().chain(services).find(failed).unwrap_or(Ok(()))
}

/// Limit of addresses to remove.
const ADDRESSES: usize = 1024;
/// Where systemd-networkd and NetworkManager keep leases and connections.
const SERVICES: [&str; 2] = ["run/systemd/netif", "run/NetworkManager"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_files_the_report_is_left() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in [
            "run/cvm-unlock/report.json",
            "run/cvm-unlock/network-wanted",
            "run/cvm-unlock/resolv.conf",
            "run/systemd/netif/links/2",
            "run/NetworkManager/devices/2",
        ] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), "").unwrap();
        }
        files(root.path()).unwrap();
        files(root.path()).unwrap();
        let left: Vec<_> =
            path("run/cvm-unlock").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["report.json"]);
        assert!(!path("run/systemd/netif").exists() && !path("run/NetworkManager").exists());
    }
}
