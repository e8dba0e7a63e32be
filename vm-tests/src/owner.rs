//! The owner of the guests: a key that signs volumes, and the configurations that name it, or nobody.
//!
//! In: OpenSSL. Out: files for the enrolment and for the initramfs.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::cache::{Artefact, Cache, Key};
use crate::format::Format;
use crate::tree::Tree;

/// Whom an image trusts to have made its root volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The owner, and what he signed: the strict defaults.
    Owner,
    /// Anybody whose volume the TPM opens: every requirement given up, to open what systemd enrolled.
    Anybody,
}

/// An owner's key, and configurations for the initramfs.
#[derive(Debug, Clone)]
pub struct Owner(Artefact);

impl Owner {
    /// Draws a key, once.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new(cache: &Cache, tools: &Tree) -> Result<Self> {
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
        Ok(Self(artefact))
    }

    /// The private key, PKCS#8 in PEM.
    pub fn key(&self) -> PathBuf {
        self.0.file(KEY)
    }

    /// The configuration of an image whose root has this format.
    pub fn configuration(&self, trust: Trust, format: Format) -> PathBuf {
        self.0.file(&name(trust, format))
    }
}

fn name(trust: Trust, format: Format) -> String {
    let trust = match trust {
        Trust::Owner => "strict",
        Trust::Anybody => "lenient",
    };
    format!("{trust}-{}.json", format.name())
}

const KEY: &str = "owner.key";
/// Less than the default of 60: a refused volume is not the end of the wait, and in most scenarios no other disk comes.
const TIMEOUT: u32 = 40;
