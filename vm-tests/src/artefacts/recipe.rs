//! The properties of an initramfs: one type each, which knows what it adds to the guest's tree and to
//! dracut's modules.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::artefacts::cache::Key;
use crate::artefacts::format::Format;
use crate::artefacts::owner::Trust;
use crate::artefacts::product::Product;
use crate::artefacts::tree::guest_file;

/// Which initramfs to build. The default is the one that is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// What unlocks the root volume.
    pub unlocker: Unlocker,
    /// Whether scripts of the test run beside the unlocker.
    pub probe: Probe,
    /// Whom our configuration trusts.
    pub trust: Trust,
    /// What our configuration says about the root's file system.
    pub format: Format,
    /// How the image configures its network when it needs one.
    pub network: Network,
}

/// What unlocks the root volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlocker {
    /// Nothing: the base that sizes are compared with.
    None,
    /// Our dracut module.
    CvmUnlock,
    /// systemd-cryptsetup with its TPM support, as dracut installs it.
    Systemd,
}

/// Whether the image runs scripts of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It does not, like every image that is shipped.
    Absent,
    /// It runs them before, beside and after the unlocker.
    Scripts,
}

/// How an image configures its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// systemd-networkd, by DHCP and router advertisements.
    Automatic,
    /// systemd-networkd, with an address, a router and a name server from the administrator's file.
    Static,
    /// NetworkManager, in a distribution without systemd-networkd.
    NetworkManager,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            unlocker: Unlocker::CvmUnlock,
            probe: Probe::Absent,
            trust: Trust::Owner,
            format: Format::Ext4,
            network: Network::Automatic,
        }
    }
}

impl Recipe {
    /// What the cache knows the recipe by. A property that is added later joins it only where it differs from
    /// its default, so that the images without it are not built again.
    pub fn name(&self) -> String {
        let Self { unlocker, probe, trust, format, network } = self;
        let probe = *probe == Probe::Scripts;
        format!(
            "Recipe {{ unlocker: {unlocker:?}, probe: {probe}, trust: {trust:?}, format: {format:?}, \
             network: {network:?} }}"
        )
    }

    /// The files that dracut needs, and their places in the guest's tree.
    ///
    /// # Errors
    /// When the executable is missing.
    pub fn files(&self, product: &Product) -> Result<Vec<(PathBuf, &'static str)>> {
        let mut files = Vec::new();
        if self.unlocker == Unlocker::CvmUnlock {
            let configuration = product.owner.configuration(self.trust, self.format);
            files.push((product.executable(self.trust)?.to_owned(), "usr/bin/cvm-unlock"));
            files.push((product.dracut_module.clone(), "usr/lib/dracut/modules.d/50cvm-unlock"));
            files.push((configuration, "etc/cvm-unlock/config.json"));
        }
        if self.probe == Probe::Scripts {
            files.push((guest_file("51cvm-probe"), "usr/lib/dracut/modules.d/51cvm-probe"));
        }
        Ok(files)
    }

    /// dracut's modules.
    pub fn modules(&self) -> Vec<&'static str> {
        [BASE_MODULES, self.unlocker.modules(), self.probe.modules()].concat()
    }
}

impl Unlocker {
    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::CvmUnlock => &["cvm-unlock"],
            // Each calls for the next.
            Self::Systemd => &["crypt", "dm", "tpm2-tss", "systemd-cryptsetup", "systemd-pcrphase"],
        }
    }
}

impl Probe {
    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Absent => &[],
            Self::Scripts => &["cvm-probe"],
        }
    }
}

impl Network {
    /// Packages that the guest needs for it.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Automatic | Self::Static => &[],
            Self::NetworkManager => &["network-manager"],
        }
    }

    /// Adds to a key what [`Self::prepare`] does.
    #[must_use]
    pub fn mark(self, key: Key) -> Key {
        match self {
            Self::Automatic => key,
            Self::Static => key.and(STATIC),
            Self::NetworkManager => key.and(NETWORKD.join(" ")),
        }
    }

    /// Changes the guest's tree before dracut runs in it.
    ///
    /// # Errors
    /// When a file cannot be written or removed.
    pub fn prepare(self, tree: &Path) -> Result<()> {
        match self {
            Self::Automatic => {}
            Self::Static => {
                let directory = tree.join("etc/cvm-unlock/network");
                fs::create_dir_all(&directory)?;
                fs::write(directory.join("10-static.network"), STATIC)?;
            }
            Self::NetworkManager => {
                for file in NETWORKD {
                    let path = tree.join(file);
                    fs::remove_file(&path).with_context(|| format!("Removing {}", path.display()))?;
                }
            }
        }
        Ok(())
    }
}

/// A plain systemd initrd; the same for every unlocker.
const BASE_MODULES: &[&str] =
    &["base", "systemd", "systemd-initrd", "kernel-modules", "rootfs-block", "fs-lib", "udev-rules"];

/// What makes a distribution one without systemd-networkd.
const NETWORKD: [&str; 2] =
    ["usr/lib/systemd/systemd-networkd", "usr/lib/systemd/system/systemd-networkd.service"];

/// Another address than QEMU's router gives out.
pub const STATIC_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);
const STATIC: &str = "[Match]
Type=ether

[Network]
Address=10.0.2.77/24
Gateway=10.0.2.2
DNS=10.0.2.3
DHCP=no
LinkLocalAddressing=no
IPv6AcceptRA=no
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_makes_another_image() {
        let shipped = Recipe::default();
        let others = [
            Recipe { unlocker: Unlocker::Systemd, ..shipped },
            Recipe { probe: Probe::Scripts, ..shipped },
            Recipe { trust: Trust::Anybody, ..shipped },
            Recipe { format: Format::Xfs, ..shipped },
            Recipe { network: Network::Static, ..shipped },
        ];
        for other in others {
            assert_ne!(other.name(), shipped.name(), "{other:?}");
        }
    }
}
