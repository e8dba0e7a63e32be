//! The owner of the guests: the key that signs volumes, and the configurations of initramfses that trust it,
//! or anybody, or key brokers beside it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::artefacts::addresses::{FIRST, IPV4, NAME, SECOND};
use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::format::Format;
use crate::artefacts::pki::Pki;
use crate::artefacts::tree::Tree;

/// Whom an image trusts to have made its root volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The owner, and what he signed: the strict defaults.
    Owner,
    /// Anybody whose volume the TPM opens: every requirement given up, to open what systemd enrolled.
    Anybody,
    /// The owner, and the key brokers beside the machine where the TPM gives nothing.
    Brokers,
    /// The owner and the key brokers, without a TPM, by evidence that proves nothing: for the executable with
    /// the test double only.
    BrokersAlone,
}

/// An owner's key, and configurations for the initramfs.
#[derive(Debug, Clone)]
pub struct Owner {
    key: Artefact,
    /// Configurations that name key brokers.
    attesting: Artefact,
}

impl Owner {
    /// Draws a key, once, and names the key brokers of this authority.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new(cache: &Cache, tools: &Tree, pki: &Pki) -> Result<Self> {
        let key = Key::of("owner 2").and(tools.root().as_os_str().as_encoded_bytes());
        let artefact = cache.artefact("owner", key, |path| {
            let private = path.join(KEY).display().to_string();
            tools.run(
                "openssl",
                ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &private],
            )?;
            let public = tools.run("openssl", ["pkey", "-in", &private, "-pubout"])?;
            for format in Format::ALL {
                let strict = json!({
                    "device_timeout_seconds": TIMEOUT,
                    "root": format.mount(),
                    "authentic": {"owner_keys": [public]},
                });
                let lenient = json!({
                    "device_timeout_seconds": TIMEOUT,
                    "root": format.mount(),
                    "policy": {"require_authentic": false, "require_binding": false, "require_fence": false},
                });
                fs::write(path.join(name(Trust::Owner, format)), strict.to_string())?;
                fs::write(path.join(name(Trust::Anybody, format)), lenient.to_string())?;
            }
            Ok(())
        })?;
        let key =
            Key::of(format!("attesting 1 {FIRST} {SECOND}")).artefact(&artefact).artefact(pki.artefact());
        let attesting = cache.artefact("attesting", key, |path| {
            for format in Format::ALL {
                let strict: Value =
                    serde_json::from_str(&fs::read_to_string(artefact.file(&name(Trust::Owner, format)))?)?;
                let write = |trust, more: Value| -> Result<()> {
                    let mut config = strict.clone();
                    let members = config.as_object_mut().context("The configuration is no object")?;
                    members.extend(more.as_object().cloned().unwrap_or_default());
                    Ok(fs::write(path.join(name(trust, format)), config.to_string())?)
                };
                let mut brokers = brokers(&pki.authority()?);
                write(Trust::Brokers, json!({"kbs": brokers}))?;
                let members = brokers.as_object_mut().context("The brokers are no object")?;
                members.insert("evidence".to_owned(), json!("sample"));
                write(Trust::BrokersAlone, json!({"tpm": "none", "kbs": brokers}))?;
            }
            Ok(())
        })?;
        Ok(Self { key: artefact, attesting })
    }

    /// The private key, PKCS#8 in PEM.
    pub fn key(&self) -> PathBuf {
        self.key.file(KEY)
    }

    /// The configuration of an image whose root has this format.
    pub fn configuration(&self, trust: Trust, format: Format) -> PathBuf {
        let artefact = match trust {
            Trust::Owner | Trust::Anybody => &self.key,
            Trust::Brokers | Trust::BrokersAlone => &self.attesting,
        };
        artefact.file(&name(trust, format))
    }
}

/// The member `kbs` of a configuration: the first broker by an address, the second by its name.
pub fn brokers(authority: &str) -> Value {
    let server = |host: &str, port: u16| json!({"url": format!("https://{host}:{port}"), "ca": authority});
    json!({
        "servers": [server(&IPV4.to_string(), FIRST), server(NAME, SECOND)],
        "resource": "default/disk/{uuid}",
        // Under emulation and load, a handshake takes seconds.
        "connect_timeout_seconds": 20,
        "deadline_seconds": DEADLINE,
        "not_before": NOT_BEFORE,
    })
}

fn name(trust: Trust, format: Format) -> String {
    let trust = match trust {
        Trust::Owner => "strict",
        Trust::Anybody => "lenient",
        Trust::Brokers => "brokers",
        Trust::BrokersAlone => "brokers-alone",
    };
    format!("{trust}-{}.json", format.name())
}

/// For all servers, and for the network before them.
pub const DEADLINE: u32 = 60;
/// 2026-11-01, later than the end of the expired certificate.
const NOT_BEFORE: u64 = 1_793_491_200;
const KEY: &str = "owner.key";
/// Less than the default of 60: after a refusal we wait for another disk, and in most scenarios there is
/// none.
const TIMEOUT: u32 = 40;
