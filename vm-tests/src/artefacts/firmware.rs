//! The machine's firmware: OVMF from the tools tree with Secure Boot on, and the one key that it trusts. What
//! another key signed does not boot.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::tree::Tree;
use crate::encoding::hex;

/// Whether the firmware starts only what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// It does.
    SecureBoot,
    /// It is a build without Secure Boot.
    None,
}

/// Firmware and signing key as one artefact.
#[derive(Debug, Clone)]
pub struct Firmware(Artefact);

impl Firmware {
    /// Makes the key and enrols it into OVMF's variables, offline.
    ///
    /// # Errors
    /// When one of the tools fails.
    pub fn new(cache: &Cache, tools: &Tree) -> Result<Self> {
        let key = Key::of("firmware 1").and(tools.root().as_os_str().as_encoded_bytes());
        let artefact = cache.artefact("firmware", key, |path| build(tools, path))?;
        Ok(Self(artefact))
    }

    /// The executable half, read-only, as the tools see it.
    pub fn code(&self, security: Security) -> PathBuf {
        match security {
            Security::SecureBoot => self.0.file("code.fd"),
            Security::None => PLAIN_CODE.into(),
        }
    }

    /// The variable store as it is before the first boot; copy it for each machine.
    pub fn variables(&self, tools: &Tree, security: Security) -> PathBuf {
        match security {
            Security::SecureBoot => self.0.file("vars.fd"),
            Security::None => tools.root().join(OVMF_VARS.trim_start_matches('/')),
        }
    }

    /// Signs an EFI executable.
    ///
    /// # Errors
    /// When sbsign fails.
    pub fn sign(&self, tools: &Tree, unsigned: &Path, signed: &Path) -> Result<()> {
        tools.run(
            "sbsign",
            [
                "--key".as_ref(),
                self.0.file("db.key").as_os_str(),
                "--cert".as_ref(),
                self.0.file("db.pem").as_os_str(),
                "--output".as_ref(),
                signed.as_os_str(),
                unsigned.as_os_str(),
            ],
        )?;
        Ok(())
    }

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.0
    }
}

fn build(tools: &Tree, path: &Path) -> Result<()> {
    let (key, cert) = (path.join("db.key"), path.join("db.pem"));
    tools.run(
        "openssl",
        [
            "req".as_ref(),
            "-x509".as_ref(),
            "-newkey".as_ref(),
            "rsa:2048".as_ref(),
            "-nodes".as_ref(),
            "-days".as_ref(),
            "36500".as_ref(),
            "-subj".as_ref(),
            "/CN=cvm-unlock VM tests/".as_ref(),
            "-keyout".as_ref(),
            key.as_os_str(),
            "-out".as_ref(),
            cert.as_os_str(),
        ],
    )?;
    tools.run("cp", [OVMF_CODE.as_ref(), path.join("code.fd").as_os_str()])?;
    tools.run(
        "virt-fw-vars",
        [
            "--input".as_ref(),
            OVMF_VARS.as_ref(),
            "--output".as_ref(),
            path.join("vars.fd").as_os_str(),
            "--set-pk".as_ref(),
            OWNER.as_ref(),
            cert.as_os_str(),
            "--add-kek".as_ref(),
            OWNER.as_ref(),
            cert.as_os_str(),
            "--add-db".as_ref(),
            OWNER.as_ref(),
            cert.as_os_str(),
            "--secure-boot".as_ref(),
        ],
    )?;
    Ok(())
}

/// A variable that the host sets in the firmware's store.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Name.
    pub name: &'static str,
    /// GUID of the vendor.
    pub vendor: &'static str,
    /// Text; stored as UTF-16 with a final NUL.
    pub text: &'static str,
}

impl Variable {
    /// Sets it in a variable store.
    ///
    /// # Errors
    /// When virt-fw-vars fails.
    pub fn set(&self, tools: &Tree, store: &Path) -> Result<()> {
        let data: Vec<u8> = self.text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let variable =
            json!({"name": self.name, "guid": self.vendor, "attr": KEPT_AND_SEEN, "data": hex(&data)});
        let file = store.with_extension("json");
        fs::write(&file, json!({"version": 2, "variables": [variable]}).to_string())?;
        tools.run(
            "virt-fw-vars",
            ["--inplace".as_ref(), store.as_os_str(), "--set-json".as_ref(), file.as_os_str()],
        )?;
        Ok(())
    }
}

/// Non-volatile, visible while booting and at run time (UEFI 2.10, 8.2.1).
const KEPT_AND_SEEN: u32 = 7;
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// Knows nothing of Secure Boot.
const PLAIN_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Without any keys.
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Names the owner of the enrolled key; any GUID will do.
const OWNER: &str = "5ad4ffa0-1d3c-4f0b-9e0a-6f2a4d9c7b10";
