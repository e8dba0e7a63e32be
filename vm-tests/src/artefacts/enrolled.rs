//! Volumes that a TPM or a key broker opens, enrolled on the host with given PCR values: a header with a
//! token, and the state of the TPM that holds the other half.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::artefacts::cache::{Artefact, Key};
use crate::artefacts::policy::Policy;
use crate::artefacts::tpm::{Swtpm, copy_state};
use crate::artefacts::tree::{Tree, output_of};
use crate::artefacts::volume::Volume;
use crate::artefacts::workbench::Workbench;
use crate::artefacts::writer::Writer;
use crate::encoding::unhex;

/// Who writes the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enroller {
    /// `cvm-unlock enroll`, by the owner.
    CvmUnlock,
    /// `cvm-unlock enroll`, by somebody without the owner's key.
    Stranger,
    /// `systemd-cryptenroll`, for comparison.
    Systemd,
    /// The same of another version.
    Version(Writer),
    /// `cvm-unlock enroll`, by the owner, for the TPM and for a key broker.
    TpmAndBroker,
    /// `cvm-unlock enroll`, by the owner, for a key broker alone.
    Broker,
}

/// A volume's header with a token, and the TPM that opens it.
#[derive(Debug, Clone)]
pub struct Enrolled {
    artefact: Artefact,
    tools: Tree,
    /// The volume that the header belongs to.
    pub volume: Volume,
}

impl Enrolled {
    /// Enrols on this machine: the policy's PCR values are given, so the guest is not needed.
    ///
    /// # Errors
    /// When the enrolment fails.
    pub fn new(
        Workbench { cache, tools, product, .. }: &Workbench,
        volume: &Volume,
        factory_tpm: &Artefact,
        (enroller, policy): (Enroller, &Policy),
    ) -> Result<Self> {
        let mut key =
            Key::of(format!("enrolled 1 {enroller:?}")).artefact(volume.artefact()).artefact(factory_tpm);
        key = policy.mark(key);
        key = match enroller {
            Enroller::CvmUnlock | Enroller::Stranger | Enroller::TpmAndBroker | Enroller::Broker => {
                key.file(&product.executable)?
            }
            Enroller::Systemd => key,
            Enroller::Version(writer) => key.and(writer.tree(cache)?.root().as_os_str().as_encoded_bytes()),
        };
        let artefact = cache.artefact("enrolled", key, |path| {
            let state = copy_state(&factory_tpm.path, &path.join(TPM))?;
            let image = path.join(IMAGE);
            output_of(Command::new("cp").arg("--reflink=auto").args([&volume.path(), &image]), "cp")?;
            let swtpm = Swtpm::on_the_host(tools, &state)?;
            policy.replay(tools, swtpm.address())?;
            let ours = || {
                let mut command = Command::new(&product.executable);
                command.arg("enroll");
                command
            };
            let sign = format!("--sign-key={}", product.owner.key().display());
            let document = format!("--kbs={}", path.join(DOCUMENT).display());
            let mut command = match enroller {
                Enroller::CvmUnlock => {
                    let mut command = ours();
                    command.args([PRIVATE_DB, &sign]);
                    command
                }
                Enroller::TpmAndBroker => {
                    let mut command = ours();
                    command.args([PRIVATE_DB, &sign, &document]);
                    command
                }
                Enroller::Broker => {
                    let mut command = ours();
                    command.args([&sign, &document]);
                    command
                }
                Enroller::Stranger => {
                    let mut command = ours();
                    command.arg(PRIVATE_DB);
                    command
                }
                Enroller::Systemd => Writer::V257.command(cache)?,
                Enroller::Version(writer) => writer.command(cache)?,
            };
            command.arg(format!("--unlock-key-file={}", volume.passphrase().display()));
            if enroller != Enroller::Broker {
                command.arg(format!("--tpm2-device={}", swtpm.address())).args(policy.options());
            }
            command.arg(&image);
            fs::write(path.join("enroll.log"), output_of(&mut command, "enroll")?)?;
            drop(swtpm);
            let header = ["-c", HEADER_SIZE];
            let bytes = Command::new("head").args(header).arg(&image).output()?.stdout;
            fs::write(path.join(HEADER), bytes)?;
            fs::remove_file(image).context("Removing the enrolled copy")
        })?;
        Ok(Self { artefact, tools: tools.clone(), volume: volume.clone() })
    }

    /// The bytes before the encrypted data, with the token.
    pub fn header(&self) -> PathBuf {
        self.artefact.file(HEADER)
    }

    /// What a key broker has to give out for this volume, if it was enrolled for one.
    pub fn key_document(&self) -> PathBuf {
        self.artefact.file(DOCUMENT)
    }

    /// The sealed object in the header's token, split into what `tpm2_load` wants: private and public part.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn sealed_object(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let token = self.token()?;
        let blob = token.get("tpm2-blob").and_then(Value::as_str).context("The token has no blob")?;
        let dump = "printf %s \"$1\" | base64 --decode | od -An -v -tx1 | tr -d ' \\n'";
        let blob = unhex(self.tools.run("sh", ["-c", dump, "sh", blob])?.trim())?;
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
    pub fn policy_pcrs(&self) -> Result<String> {
        let token = self.token()?;
        let pcrs = token.get("tpm2-pcrs").and_then(Value::as_array).context("The token has no PCRs")?;
        Ok(pcrs.iter().map(Value::to_string).collect::<Vec<_>>().join(","))
    }

    fn token(&self) -> Result<Value> {
        let header = self.header();
        let args = ["luksDump".as_ref(), "--dump-json-metadata".as_ref(), header.as_os_str()];
        let metadata: Value = serde_json::from_str(&self.tools.run("cryptsetup", args)?)?;
        let tokens = metadata.get("tokens").and_then(Value::as_object).context("No tokens")?;
        let token = tokens.values().find(|token| token.get("type") == Some(&"systemd-tpm2".into()));
        token.cloned().context("No systemd-tpm2 token")
    }

    /// The state of the TPM.
    pub fn tpm(&self) -> PathBuf {
        self.artefact.file(TPM)
    }
}

/// The signature database of our firmware holds our key alone.
const PRIVATE_DB: &str = "--private-db";
/// What a key broker has to serve.
const DOCUMENT: &str = "key-document";
const IMAGE: &str = "root.luks";
const HEADER: &str = "header.img";
/// The data offset that `--reduce-device-size 32M` leads to, in `head`'s notation.
const HEADER_SIZE: &str = "16M";
const TPM: &str = "tpm";
