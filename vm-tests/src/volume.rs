//! Root volumes: a file system made from the guest tree, and the same encrypted offline.
//!
//! In: the guest tree. Out: a file system, a LUKS2 volume. Nothing is mounted or mapped.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cache::{Artefact, Cache, Key};
use crate::format::Format;
use crate::initramfs::{guest_file, stage};
use crate::tree::Tree;

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
}

/// A LUKS2 volume with one passphrase keyslot.
#[derive(Debug, Clone)]
pub struct Volume(Artefact);

impl Volume {
    /// Encrypts a file system, offline and without a mapping.
    ///
    /// # Errors
    /// When cryptsetup fails.
    pub fn new(cache: &Cache, tools: &Tree, filesystem: &Filesystem) -> Result<Self> {
        let key = Key::of("volume 1").artefact(&filesystem.0).and(ENCRYPT);
        let artefact = cache.artefact("volume", key, |path| {
            fs::write(path.join(PASSPHRASE), "the builder's passphrase")?;
            tools
                .run(
                    "sh",
                    [
                        "-c".as_ref(),
                        ENCRYPT.as_ref(),
                        "sh".as_ref(),
                        filesystem.path().as_os_str(),
                        path.as_os_str(),
                    ],
                )
                .map(drop)
        })?;
        Ok(Self(artefact))
    }

    /// The whole volume.
    pub fn path(&self) -> PathBuf {
        self.0.file(VOLUME)
    }

    /// The passphrase of the first keyslot, in a file.
    pub fn passphrase(&self) -> PathBuf {
        self.0.file(PASSPHRASE)
    }

    /// The LUKS UUID, as cryptsetup reads it.
    ///
    /// # Errors
    /// When cryptsetup fails.
    pub fn uuid(&self, tools: &Tree) -> Result<String> {
        Ok(tools.run("cryptsetup", ["luksUUID".as_ref(), self.path().as_os_str()])?.trim().to_owned())
    }

    /// What PCR 15 is extended with when the volume opens as `root`, by systemd's formula:
    /// HMAC-SHA256(volume key, "cryptsetup:root:" UUID). The key comes from cryptsetup, the HMAC from OpenSSL.
    ///
    /// # Errors
    /// When one of the tools fails.
    pub fn measurement(&self, tools: &Tree) -> Result<Vec<u8>> {
        let message = format!("cryptsetup:root:{}", self.uuid(tools)?);
        let key = crate::hex(&self.key(tools)?);
        let hmac = "printf %s \"$1\" | openssl dgst -sha256 -mac HMAC -macopt \"hexkey:$2\" -r";
        let digest = tools.run("sh", ["-c", hmac, "sh", &message, &key])?;
        let digest = digest.split_whitespace().next().context("OpenSSL printed no digest")?;
        crate::unhex(digest)
    }

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.0
    }

    /// The volume key, as whoever made the volume knows it.
    ///
    /// # Errors
    /// When cryptsetup fails.
    pub fn key(&self, tools: &Tree) -> Result<Vec<u8>> {
        let (passphrase, volume) = (self.passphrase(), self.path());
        let args =
            ["-c".as_ref(), DUMP_KEY.as_ref(), "sh".as_ref(), passphrase.as_os_str(), volume.as_os_str()];
        crate::unhex(tools.run("sh", args)?.trim())
    }
}

/// Arguments: the file with the passphrase, the volume. The file for the key must not exist before.
const DUMP_KEY: &str = r#"set -e
dir=$(mktemp -d)
cryptsetup luksDump --batch-mode --dump-volume-key --key-file "$1" --volume-key-file "$dir/key" "$2" > /dev/null
od -An -v -tx1 "$dir/key" | tr -d ' \n'
rm -r "$dir"
"#;
const FILESYSTEM: &str = "root.img";
const VOLUME: &str = "root.luks";
const PASSPHRASE: &str = "passphrase";

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

/// Arguments: the file system's image, and the directory for the volume.
const ENCRYPT: &str = r#"set -e
cp --sparse=never "$1" "$2/root.luks"
truncate --size=+32M "$2/root.luks"
cryptsetup reencrypt --encrypt --batch-mode --type luks2 --reduce-device-size 32M \
    --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --sector-size 4096 \
    --key-file "$2/passphrase" "$2/root.luks"
"#;
