//! Root file systems, made from the guest's tree without a mount.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::format::Format;
use crate::artefacts::tree::{Tree, guest_file, stage};

/// What runs as PID 1 of the real root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Userland {
    /// A shell script that collects evidence and powers off.
    Script,
    /// The same script, in a system that can grow its partitions.
    GrowingScript,
    /// systemd; a unit after multi-user.target does the same.
    Systemd,
}

impl Userland {
    /// Packages that other guests do without.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Script | Self::Systemd => &[],
            Self::GrowingScript => &["cloud-guest-utils"],
        }
    }

    /// What [`POPULATE`] calls its PID 1.
    fn init(self) -> &'static str {
        match self {
            Self::Script | Self::GrowingScript => "Script",
            Self::Systemd => "Systemd",
        }
    }
}

/// A root file system, not encrypted.
#[derive(Debug, Clone)]
pub struct Filesystem(Artefact);

impl Filesystem {
    /// Makes the file system of a userland.
    ///
    /// # Errors
    /// When one of the tools fails.
    pub fn new(
        cache: &Cache,
        tools: &Tree,
        guest: &Artefact,
        userland: Userland,
        format: Format,
    ) -> Result<Self> {
        let scripts = ["collect", "script-init", "cvm-collect.service"].map(guest_file);
        let mut key = Key::of(format!("filesystem 2 {}", userland.init())).artefact(guest).and(POPULATE);
        key = key.and(format.recipe());
        for script in &scripts {
            key = key.file(script)?;
        }
        let artefact = cache.artefact("filesystem", key, |path| {
            let tree = stage(guest, path)?;
            let [collect, init, unit] = &scripts;
            for (from, to) in [
                (collect, "usr/local/sbin/cvm-collect"),
                (init, "usr/local/sbin/cvm-script-init"),
                (unit, "etc/systemd/system/cvm-collect.service"),
            ] {
                fs::copy(from, tree.join(to))?;
            }
            Tree::new(&tree, cache.root()).run("sh", ["-c", POPULATE, "sh", userland.init()])?;
            format.make(cache, tools, &tree, &path.join(FILESYSTEM))?;
            fs::remove_dir_all(&tree).context("Removing the staged tree")
        })?;
        Ok(Self(artefact))
    }

    /// The image.
    pub fn path(&self) -> PathBuf {
        self.0.file(FILESYSTEM)
    }

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.0
    }
}

const FILESYSTEM: &str = "root.img";

/// Runs in the guest's tree; the argument is what runs as PID 1.
const POPULATE: &str = r#"set -e
rm -rf /boot/* /usr/lib/dracut /var/cache/* /var/lib/apt/lists/*
chmod 755 /usr/local/sbin/*
echo 0123456789abcdef0123456789abcdef > /etc/machine-id
echo guest > /etc/hostname
if [ "$1" = Script ]; then
    # systemd's switch-root prefers its own PID 1 to /sbin/init.
    rm -r /usr/lib/systemd/systemd /sbin/init /usr/lib/modules/*
    ln -s /usr/local/sbin/cvm-script-init /sbin/init
else
    ln -s /etc/systemd/system/cvm-collect.service /etc/systemd/system/multi-user.target.wants/
    ln -sf /usr/lib/systemd/system/multi-user.target /etc/systemd/system/default.target
fi
"#;
