//! What a key broker knows and how it behaves.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::artefacts::enrolled::Enrolled;
use crate::artefacts::pki::{Certificate, Pki};
use crate::artefacts::tpm::{Swtpm, copy_state};
use crate::artefacts::tree::output_of;
use crate::artefacts::workbench::Workbench;
use crate::encoding::base64;

/// What a broker knows and how it behaves: the configuration of `double.py`.
#[derive(Debug, Clone)]
pub struct Service {
    port: u16,
    certificate: Certificate,
    config: Map<String, Value>,
    resources: Map<String, Value>,
    pcrs: Map<String, Value>,
}

impl Service {
    /// One that takes evidence of a TPM, and has no key for anybody.
    pub fn at(port: u16) -> Self {
        let (config, resources, pcrs) = (Map::new(), Map::new(), Map::new());
        Self { port, certificate: Certificate::Right, config, resources, pcrs }
    }

    /// Has this key document for the volume that it opens.
    ///
    /// # Errors
    /// When there is none, or cryptsetup fails.
    pub fn serving(self, enrolled: &Enrolled) -> Result<Self> {
        let path = path_of(enrolled)?;
        self.serving_at(&path, &enrolled.key_document())
    }

    /// Has this key document at this path.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn serving_at(mut self, path: &str, document: &Path) -> Result<Self> {
        let bytes = fs::read(document).with_context(|| format!("Reading {}", document.display()))?;
        self.resources.insert(path.to_owned(), json!(base64(&bytes)));
        Ok(self)
    }

    /// Insists on this value of a PCR.
    #[must_use]
    pub fn pcr(mut self, index: u32, value: &str) -> Self {
        self.pcrs.insert(index.to_string(), json!([value]));
        self
    }

    /// Knows the attestation key of this TPM, and no other.
    ///
    /// # Errors
    /// When the TPM does not show it.
    pub fn knowing(self, workbench: &Workbench, tpm: &Path) -> Result<Self> {
        let key = attestation_key(workbench, tpm)?;
        Ok(self.with("registered_aks", json!([key])))
    }

    /// The same at another port.
    #[must_use]
    pub fn on(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Any other member of the configuration.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.config.insert(name.to_owned(), value);
        self
    }

    /// Shows this certificate.
    #[must_use]
    pub fn certified(self, certificate: Certificate) -> Self {
        Self { certificate, ..self }
    }

    /// The port that it listens at.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The configuration of a double that logs to `log`.
    pub fn configuration(&self, pki: &Pki, log: &Path) -> Value {
        let [certificate, key] = pki.files(self.certificate);
        let mut config = json!({
            "address": "::", "port": self.port, "log": log, "certificate": certificate, "key": key,
            "pcrs": self.pcrs, "resources": self.resources,
        });
        if let Some(config) = config.as_object_mut() {
            config.extend(self.config.clone());
        }
        config
    }
}

/// Where the broker keeps the key of a volume, by the template of the images' configuration.
///
/// # Errors
/// When cryptsetup fails.
pub fn path_of(enrolled: &Enrolled) -> Result<String> {
    Ok(format!("default/disk/{}", enrolled.volume.uuid()?))
}

/// The attestation key of the TPM with this state, as brokers know it.
fn attestation_key(workbench: &Workbench, tpm: &Path) -> Result<String> {
    let state = copy_state(tpm, &workbench.cache.socket("ak"))?;
    let swtpm = Swtpm::on_the_host(&workbench.tools, &state)?;
    let mut command = Command::new(&workbench.product.executable);
    command.args(["attest", "--show-ak", "--json"]).arg(format!("--tpm2-device={}", swtpm.address()));
    let shown: Value = serde_json::from_str(&output_of(&mut command, "attest --show-ak")?)?;
    drop(swtpm);
    fs::remove_dir_all(state)?;
    let key = shown.get("ak_public").and_then(Value::as_str);
    Ok(key.context("No attestation key was shown")?.to_owned())
}
