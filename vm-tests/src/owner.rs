//! The owner of the guests: a key that signs volumes, and the configurations that name it, or nobody.
//!
//! In: OpenSSL. Out: files for the enrolment and for the initramfs.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::cache::{Artefact, Cache, Key};
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
        let key = Key::of("owner 1").and(tools.root().as_os_str().as_encoded_bytes());
        let artefact = cache.artefact("owner", key, |path| {
            let private = path.join(KEY).display().to_string();
            tools.run(
                "openssl",
                ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &private],
            )?;
            let public = tools.run("openssl", ["pkey", "-in", &private, "-pubout"])?;
            let strict = json!({"authentic": {"owner_keys": [public]}});
            let lenient = json!({
                "policy": {"require_authentic": false, "require_binding": false, "require_fence": false},
            });
            fs::write(path.join(STRICT), strict.to_string())?;
            Ok(fs::write(path.join(LENIENT), lenient.to_string())?)
        })?;
        Ok(Self(artefact))
    }

    /// The private key, PKCS#8 in PEM.
    pub fn key(&self) -> PathBuf {
        self.0.file(KEY)
    }

    /// The configuration of an image.
    pub fn configuration(&self, trust: Trust) -> PathBuf {
        self.0.file(match trust {
            Trust::Owner => STRICT,
            Trust::Anybody => LENIENT,
        })
    }
}

const KEY: &str = "owner.key";
const STRICT: &str = "strict.json";
const LENIENT: &str = "lenient.json";
