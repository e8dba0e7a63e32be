//! Root volumes: a LUKS2 volume made from a root file system, offline and without a mapping.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::filesystem::Filesystem;
use crate::artefacts::tree::Tree;
use crate::encoding::{hex, unhex};

/// A LUKS2 volume with one passphrase keyslot.
#[derive(Debug, Clone)]
pub struct Volume {
    artefact: Artefact,
    tools: Tree,
}

impl Volume {
    /// Encrypts a file system, offline and without a mapping.
    ///
    /// # Errors
    /// When cryptsetup fails.
    pub fn new(cache: &Cache, tools: &Tree, filesystem: &Filesystem) -> Result<Self> {
        let key = Key::of("volume 1").artefact(filesystem.artefact()).and(ENCRYPT);
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
        Ok(Self { artefact, tools: tools.clone() })
    }

    /// The whole volume.
    pub fn path(&self) -> PathBuf {
        self.artefact.file(VOLUME)
    }

    /// The passphrase of the first keyslot, in a file.
    pub fn passphrase(&self) -> PathBuf {
        self.artefact.file(PASSPHRASE)
    }

    /// The LUKS UUID, as cryptsetup reads it.
    ///
    /// # Errors
    /// When cryptsetup fails.
    pub fn uuid(&self) -> Result<String> {
        Ok(self.tools.run("cryptsetup", ["luksUUID".as_ref(), self.path().as_os_str()])?.trim().to_owned())
    }

    /// What PCR 15 is extended with when the volume opens as `root`, by systemd's formula:
    /// HMAC-SHA256(volume key, "cryptsetup:root:" UUID). The key comes from cryptsetup, the HMAC from
    /// OpenSSL.
    ///
    /// # Errors
    /// When one of the tools fails.
    pub fn measurement(&self) -> Result<Vec<u8>> {
        let message = format!("cryptsetup:root:{}", self.uuid()?);
        let key = hex(&self.key()?);
        let hmac = "printf %s \"$1\" | openssl dgst -sha256 -mac HMAC -macopt \"hexkey:$2\" -r";
        let digest = self.tools.run("sh", ["-c", hmac, "sh", &message, &key])?;
        let digest = digest.split_whitespace().next().context("OpenSSL printed no digest")?;
        unhex(digest)
    }

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.artefact
    }

    /// The volume key, by the passphrase.
    ///
    /// # Errors
    /// When cryptsetup fails.
    pub fn key(&self) -> Result<Vec<u8>> {
        let (passphrase, volume) = (self.passphrase(), self.path());
        let args =
            ["-c".as_ref(), DUMP_KEY.as_ref(), "sh".as_ref(), passphrase.as_os_str(), volume.as_os_str()];
        unhex(self.tools.run("sh", args)?.trim())
    }
}

/// Arguments: the file with the passphrase, the volume. The file for the key must not exist before.
const DUMP_KEY: &str = r#"set -e
dir=$(mktemp -d)
cryptsetup luksDump --batch-mode --dump-volume-key --key-file "$1" --volume-key-file "$dir/key" "$2" > /dev/null
od -An -v -tx1 "$dir/key" | tr -d ' \n'
rm -r "$dir"
"#;
const VOLUME: &str = "root.luks";
const PASSPHRASE: &str = "passphrase";

/// Arguments: the file system's image, and the directory for the volume.
const ENCRYPT: &str = r#"set -e
cp --sparse=never "$1" "$2/root.luks"
truncate --size=+32M "$2/root.luks"
cryptsetup reencrypt --encrypt --batch-mode --type luks2 --reduce-device-size 32M \
    --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --sector-size 4096 \
    --key-file "$2/passphrase" "$2/root.luks"
"#;
