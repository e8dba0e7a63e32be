//! A shelf of tokens: small volumes, each enrolled by one version of systemd-cryptenroll to one kind of
//! policy, all of them to the same TPM. cryptsetup makes the volumes and systemd the tokens; nothing here is
//! ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::artefacts::cache::{Artefact, Key};
use crate::artefacts::policy::{Policy, PolicyKey};
use crate::artefacts::tpm::{Swtpm, copy_state};
use crate::artefacts::tree::output_of;
use crate::artefacts::workbench::Workbench;
use crate::artefacts::writer::{Kind, PARENT, Writer};

/// One token: who wrote it and to what.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Who wrote it.
    pub writer: Writer,
    /// What is particular about it.
    pub kind: Kind,
    /// Whose signatures of PCR 11 count, where they do.
    pub signer: PolicyKey,
    /// Enrolled while PCR 7 had another value than in a boot.
    pub stale: bool,
}

/// The volumes and their TPM.
#[derive(Debug, Clone)]
pub struct Tokens {
    artefact: Artefact,
    /// What is on the shelf.
    pub cells: Vec<Cell>,
}

impl Tokens {
    /// Makes a volume for each cell. `events` are the digests that PCR 7 is extended with in a boot.
    ///
    /// # Errors
    /// When cryptsetup, systemd-cryptenroll or a TPM tool fails.
    pub fn new(workbench: &Workbench, events: &[Vec<u8>], cells: Vec<Cell>) -> Result<Self> {
        let mut key = Key::of("tokens 1").artefact(&workbench.factory_tpm).and(FORMAT).and(PERSIST);
        key = Policy::after(events).mark(key);
        for cell in &cells {
            key = key.and(cell.name()).artefact(cell.signer.artefact());
            key = key.and(cell.writer.tree(&workbench.cache)?.root().as_os_str().as_encoded_bytes());
        }
        let artefact =
            workbench.cache.artefact("tokens", key, |path| fill(workbench, &cells, events, path))?;
        Ok(Self { artefact, cells })
    }

    /// The volume of a cell.
    pub fn volume(&self, cell: &Cell) -> PathBuf {
        self.artefact.file(&cell.file())
    }

    /// The TPM that all are enrolled to, as a TPM to enrol more with.
    pub fn tpm(&self) -> &Artefact {
        &self.artefact
    }
}

impl Cell {
    /// Who, what, and how it differs from what opens.
    pub fn name(&self) -> String {
        let stale = if self.stale { "-stale" } else { "" };
        format!("{}-{}{stale}", self.writer.name(), self.kind.name())
    }

    /// The name of its volume's file.
    pub fn file(&self) -> String {
        format!("{}.luks", self.name())
    }

    fn policy(&self) -> Policy {
        let policy = Policy::literal(if self.kind.is_literal() { "7" } else { "" });
        if self.kind.is_signed() { policy.and_signed(&self.signer) } else { policy }
    }
}

fn fill(workbench: &Workbench, cells: &[Cell], events: &[Vec<u8>], path: &Path) -> Result<()> {
    let passphrase = path.join(PASSPHRASE);
    fs::write(&passphrase, "the builder's passphrase")?;
    let empty = path.join("empty.luks");
    let args = ["-c".as_ref(), FORMAT.as_ref(), "sh".as_ref(), empty.as_os_str(), passphrase.as_os_str()];
    workbench.tools.run("sh", args)?;
    let state = copy_state(&workbench.factory_tpm.path, path)?;
    let swtpm = Swtpm::on_the_host(&workbench.tools, &state)?;
    let scratch = path.join("parent").display().to_string();
    workbench.tools.run("sh", ["-c", PERSIST, "sh", swtpm.address(), PARENT, &scratch])?;
    let tcti = format!("--tcti={}", swtpm.address());
    let enrol = |cell: &Cell| -> Result<()> {
        let volume = path.join(cell.file());
        fs::copy(&empty, &volume)?;
        let mut command = cell.writer.command(&workbench.cache)?;
        command
            .arg(format!("--unlock-key-file={}", passphrase.display()))
            .arg(format!("--tpm2-device={}", swtpm.address()))
            .args(cell.policy().options())
            .args(cell.kind.options())
            .arg(&volume);
        let written = output_of(&mut command, "systemd-cryptenroll");
        written.with_context(|| format!("Writing the token {}", cell.name()))?;
        // Version 252 leaves a session behind, and here is no resource manager that would take it away.
        workbench.tools.run("tpm2_flushcontext", [&tcti, "--loaded-session"]).map(drop)
    };
    cells.iter().filter(|cell| cell.stale).try_for_each(enrol)?;
    Policy::after(events).replay(&workbench.tools, swtpm.address())?;
    cells.iter().filter(|cell| !cell.stale).try_for_each(enrol)?;
    drop(swtpm);
    output_of(Command::new("rm").args([&empty, &passphrase]), "rm").map(drop)
}

const PASSPHRASE: &str = "passphrase";

/// Arguments: the volume, its passphrase. The header's areas are as small as three more keyslots allow.
const FORMAT: &str = r#"set -e
truncate --size=3M "$1"
cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
    --offset 4096 --key-file "$2" "$1"
"#;

/// Arguments: TPM, handle, scratch file. Makes a storage key of the owner's persistent.
const PERSIST: &str = r#"set -e
export TPM2TOOLS_TCTI=$1
tpm2_createprimary --quiet --hierarchy o --key-algorithm ecc256:aes128cfb --key-context "$3"
tpm2_evictcontrol --quiet --hierarchy o --object-context "$3" "$2"
tpm2_flushcontext --transient-object
rm "$3"
"#;
