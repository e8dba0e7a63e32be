//! Root volumes: a file system made from the guest tree, encrypted offline, enrolled on the host.
//!
//! In: the guest tree, a TPM's state, PCR values. Out: a file system, a LUKS2 volume, its header
//! with a token and the state of the TPM that holds the other half. Nothing is mounted or mapped.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cache::{Artefact, Cache, Key};
use crate::initramfs::{Product, guest_file, stage};
use crate::tpm::{Swtpm, copy_state};
use crate::tree::{Tree, output_of};

/// What runs as PID 1 of the real root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Userland {
    /// A shell script that collects evidence and powers off.
    Script,
    /// systemd; a unit after multi-user.target does the same.
    Systemd,
}

/// A root file system, not encrypted.
#[derive(Debug, Clone)]
pub struct Filesystem(Artefact);

impl Filesystem {
    /// Makes the file system of a userland.
    ///
    /// # Errors
    /// When mke2fs fails.
    pub fn new(cache: &Cache, tools: &Tree, guest: &Artefact, userland: Userland) -> Result<Self> {
        let scripts = ["collect", "script-init", "cvm-collect.service"].map(guest_file);
        let mut key = Key::of(format!("filesystem 1 {userland:?}")).artefact(guest).and(POPULATE);
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
            Tree::new(&tree, cache.root()).run("sh", ["-c", POPULATE, "sh", &format!("{userland:?}")])?;
            tools.run(
                "mke2fs",
                [
                    "-q".as_ref(),
                    "-t".as_ref(),
                    "ext4".as_ref(),
                    "-b".as_ref(),
                    "4096".as_ref(),
                    "-L".as_ref(),
                    "root".as_ref(),
                    "-d".as_ref(),
                    tree.as_os_str(),
                    path.join(FILESYSTEM).as_os_str(),
                    FILESYSTEM_SIZE.as_ref(),
                ],
            )?;
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

    fn key(&self, tools: &Tree) -> Result<Vec<u8>> {
        let file = self.0.path.with_extension("key");
        tools.run(
            "cryptsetup",
            [
                "luksDump".as_ref(),
                "--batch-mode".as_ref(),
                "--dump-volume-key".as_ref(),
                "--key-file".as_ref(),
                self.passphrase().as_os_str(),
                "--volume-key-file".as_ref(),
                file.as_os_str(),
                self.path().as_os_str(),
            ],
        )?;
        let key = fs::read(&file)?;
        fs::remove_file(file)?;
        Ok(key)
    }
}

/// Who writes the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enroller {
    /// `cvm-unlock enroll`.
    CvmUnlock,
    /// `systemd-cryptenroll`, for comparison.
    Systemd,
}

/// A volume's header with a token, and the TPM that opens it.
#[derive(Debug, Clone)]
pub struct Enrolled {
    artefact: Artefact,
    /// The volume that the header belongs to.
    pub volume: Volume,
}

impl Enrolled {
    /// Enrols on this machine: the policy's PCR values are given, so the guest is not needed.
    ///
    /// # Errors
    /// When the enrolment fails.
    pub fn new(
        cache: &Cache,
        tools: &Tree,
        product: &Product,
        volume: &Volume,
        factory_tpm: &Artefact,
        (enroller, pcrs): (Enroller, &str),
    ) -> Result<Self> {
        let mut key =
            Key::of(format!("enrolled 1 {enroller:?}")).artefact(&volume.0).artefact(factory_tpm).and(pcrs);
        if enroller == Enroller::CvmUnlock {
            key = key.file(&product.executable)?;
        }
        let artefact = cache.artefact("enrolled", key, |path| {
            let state = copy_state(&factory_tpm.path, &path.join(TPM))?;
            let image = path.join(VOLUME);
            output_of(Command::new("cp").arg("--reflink=auto").args([&volume.path(), &image]), "cp")?;
            let swtpm = Swtpm::on_the_host(tools, &state)?;
            let mut command = match enroller {
                Enroller::CvmUnlock => {
                    let mut command = Command::new(&product.executable);
                    command.arg("enroll");
                    command
                }
                Enroller::Systemd => {
                    let mut command = tools.command("systemd-cryptenroll");
                    command.arg("--tpm2-pcrlock=");
                    command
                }
            };
            command
                .arg(format!("--unlock-key-file={}", volume.passphrase().display()))
                .arg(format!("--tpm2-device={}", swtpm.address()))
                .arg(format!("--tpm2-pcrs={pcrs}"))
                .arg(&image);
            fs::write(path.join("enroll.log"), output_of(&mut command, "enroll")?)?;
            drop(swtpm);
            let header = ["-c", HEADER_SIZE];
            let bytes = Command::new("head").args(header).arg(&image).output()?.stdout;
            fs::write(path.join(HEADER), bytes)?;
            fs::remove_file(image).context("Removing the enrolled copy")
        })?;
        Ok(Self { artefact, volume: volume.clone() })
    }

    /// The bytes before the encrypted data, with the token.
    pub fn header(&self) -> PathBuf {
        self.artefact.file(HEADER)
    }

    /// The sealed object in the header's token, split into what `tpm2_load` wants: private and public part.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn sealed_object(&self, tools: &Tree) -> Result<(Vec<u8>, Vec<u8>)> {
        let token = self.token(tools)?;
        let blob = token.get("tpm2-blob").and_then(Value::as_str).context("The token has no blob")?;
        let dump = "printf %s \"$1\" | base64 --decode | od -An -v -tx1 | tr -d ' \\n'";
        let blob = crate::unhex(tools.run("sh", ["-c", dump, "sh", blob])?.trim())?;
        // TPM2B_PRIVATE, then TPM2B_PUBLIC: each a 16-bit size and that many bytes.
        let size = blob.first_chunk().map(|size| usize::from(u16::from_be_bytes(*size)) + 2);
        let (private, public) =
            size.and_then(|size| blob.split_at_checked(size)).context("The token's blob is cut off")?;
        Ok((private.to_vec(), public.to_vec()))
    }

    /// The numbers of the PCRs that the token's policy names.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn policy_pcrs(&self, tools: &Tree) -> Result<String> {
        let token = self.token(tools)?;
        let pcrs = token.get("tpm2-pcrs").and_then(Value::as_array).context("The token has no PCRs")?;
        Ok(pcrs.iter().map(Value::to_string).collect::<Vec<_>>().join(","))
    }

    fn token(&self, tools: &Tree) -> Result<Value> {
        let header = self.header();
        let args = ["luksDump".as_ref(), "--dump-json-metadata".as_ref(), header.as_os_str()];
        let metadata: Value = serde_json::from_str(&tools.run("cryptsetup", args)?)?;
        let tokens = metadata.get("tokens").and_then(Value::as_object).context("No tokens")?;
        let token = tokens.values().find(|token| token.get("type") == Some(&"systemd-tpm2".into()));
        token.cloned().context("No systemd-tpm2 token")
    }

    /// The state of the TPM.
    pub fn tpm(&self) -> PathBuf {
        self.artefact.file(TPM)
    }
}

const FILESYSTEM: &str = "root.ext4";
const FILESYSTEM_SIZE: &str = "384M";
const VOLUME: &str = "root.luks";
const PASSPHRASE: &str = "passphrase";
const HEADER: &str = "header.img";
/// The data offset that `--reduce-device-size 32M` leads to, in `head`'s notation.
const HEADER_SIZE: &str = "16M";
const TPM: &str = "tpm";

/// Runs in the guest's tree; the argument is the userland.
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
