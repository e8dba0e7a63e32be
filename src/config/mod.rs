//! Parses the measured configuration: `/etc/cvm-unlock/config.json` in the initramfs, which is measured into
//! PCR 11.
//!
//! Unknown members are errors, because a misspelt switch must not silently get its default. Nothing else
//! (kernel command line, credentials, SMBIOS, DHCP) changes what we do.

mod mount;
mod timeout;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::attest::Settings;
use crate::base::error::failures;
use crate::fence::waiver::TpmRequirement;
use crate::format::luks::FlagSet;
use crate::prove::settings::{Authentic, Policy, ProofRules};
pub use mount::{MountOptions, MountWord, RootMount};
pub use timeout::DeviceTimeout;

/// The image builder's decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether a TPM is required.
    pub tpm: TpmRequirement,
    /// Which volumes may open.
    pub policy: Policy,
    /// What shows that a volume is ours.
    pub authentic: Authentic,
    /// How long to wait for the root volume's disk.
    pub device_timeout_seconds: DeviceTimeout,
    /// How to end a failed boot.
    pub on_failure: End,
    /// How to mount the unlocked root file system.
    pub root: RootMount,
    /// LUKS2 flags (dm-crypt options such as `allow-discards`) that a header may carry. Headers are
    /// untrusted, so none is allowed by default.
    pub allow_luks_flags: FlagSet,
    /// Key brokers to ask when the TPM does not unseal; `None` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kbs: Option<Settings>,
}

/// How a failed boot ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Power off. The host sees that the guest gave up.
    #[default]
    Poweroff,
    /// Reboot, for fleets that are repaired from outside.
    Reboot,
    /// Halt. The guest stays on and does nothing, so that its console can be inspected.
    Halt,
}

impl Config {
    /// Parses the bytes of a configuration file.
    ///
    /// # Errors
    /// `config-invalid`, with what is wrong and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes).map_err(ConfigError::Parse)?;
        match config.contradiction() {
            Some(contradiction) => Err(ConfigError::Contradiction(contradiction)),
            None => Ok(config),
        }
    }

    /// Two members that are each valid but exclude each other.
    fn contradiction(&self) -> Option<&'static str> {
        match (self.tpm, &self.kbs) {
            (TpmRequirement::None, None) => Some("tpm is \"none\" and there is no kbs: no volume could open"),
            (TpmRequirement::None, Some(kbs)) if kbs.evidence.needs_tpm() => {
                Some("tpm is \"none\" and kbs.evidence is the TPM's")
            }
            (_, Some(kbs)) if kbs.init_data.is_some() && !kbs.evidence.binds_init_data() => Some(
                "kbs.init_data proves nothing with kbs.evidence \"tpm\": a quote does not carry its digest",
            ),
            _ => None,
        }
    }

    /// The rules to judge a volume by.
    #[must_use]
    pub const fn proof_rules(&self) -> ProofRules<'_> {
        ProofRules { policy: &self.policy, trusted: &self.authentic }
    }

    /// Whether no volume could prove itself.
    #[must_use]
    pub fn trusts_nobody(&self) -> bool {
        let Authentic { volume_keys, owner_keys, key_broker } = &self.authentic;
        volume_keys.is_empty() && owner_keys.is_empty() && !(*key_broker && self.kbs.is_some())
    }

    /// Reads `file`, or the image's own configuration under `root` if `file` is `None`. If the image has
    /// none, everything has its default.
    ///
    /// # Errors
    /// `config-unreadable`, `config-invalid`.
    pub fn load(root: &Path, file: Option<&Path>) -> Result<Self, ConfigError> {
        let path = file.map_or_else(|| root.join(PATH), PathBuf::from);
        let handle = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => {
                return Ok(Self::default());
            }
            opened => opened.map_err(|source| ConfigError::Read { path: path.clone(), source })?,
        };
        let mut bytes = Vec::new();
        handle.take(MAX_SIZE).read_to_end(&mut bytes).map_err(|source| ConfigError::Read { path, source })?;
        Self::parse(&bytes)
    }
}

/// Why no configuration could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("Reading the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file is not a valid configuration.
    #[error("Parsing the configuration")]
    Parse(#[source] serde_json::Error),
    /// Members that exclude each other.
    #[error("The configuration contradicts itself: {0}")]
    Contradiction(&'static str),
}

failures! { ConfigError:
    Self::Read { .. } => "config-unreadable", Config,
        "Check it where the image is built: cvm-unlock config check --config=FILE";
    Self::Parse(_) | Self::Contradiction(_) => "config-invalid", Config,
        "Check it where the image is built: cvm-unlock config check --config=FILE";
}

/// Path of the configuration in the initramfs.
pub const PATH: &str = "etc/cvm-unlock/config.json";
/// More than any sensible configuration needs. A larger file is truncated, so the parser refuses it.
const MAX_SIZE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;

    #[test]
    fn an_empty_object_means_the_strict_defaults() {
        let config = Config::parse(b"{}").unwrap();
        assert_eq!(config, Config::default());
        let policy = &config.policy;
        assert!(
            policy.require_authentic
                && policy.require_binding
                && policy.require_fence
                && !policy.allow_unbound
        );
        assert!(config.trusts_nobody());
        assert_eq!(config.on_failure, End::Poweroff);
    }

    #[test]
    fn a_misspelt_switch_is_an_error_and_not_its_default() {
        for text in [r#"{"polcy": {}}"#, r#"{"policy": {"require_bindin": true}}"#, r#"{"tpm": "optional"}"#]
        {
            assert_eq!(Config::parse(text.as_bytes()).unwrap_err().slug(), "config-invalid", "{text}");
        }
    }

    #[test]
    fn members_that_make_each_other_useless_are_refused_together() {
        let kbs = serde_json::json!({
            "servers": [{"url": "https://kbs.example", "spki": "5a".repeat(32)}],
            "resource": "default/disk/{uuid}"
        });
        let mut with_init_data = kbs.clone();
        with_init_data["init_data"] = "version = \"0.1.0\"".into();
        for (config, explanation) in [
            (serde_json::json!({"tpm": "none"}), "there is no kbs"),
            (serde_json::json!({"tpm": "none", "kbs": kbs}), "kbs.evidence is the TPM's"),
            (serde_json::json!({"kbs": with_init_data}), "kbs.init_data proves nothing"),
        ] {
            let error = Config::parse(config.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.slug(), "config-invalid");
            assert!(error.to_string().contains(explanation), "{error}");
        }
        assert!(Config::parse(serde_json::json!({"kbs": kbs}).to_string().as_bytes()).is_ok());
    }

    #[test]
    fn owner_keys_and_pins_that_prove_nothing_are_explained() {
        let explained = |authentic: serde_json::Value| {
            let text = serde_json::json!({"authentic": authentic}).to_string();
            crate::base::error::chain(&Config::parse(text.as_bytes()).unwrap_err())
        };
        for (authentic, explanation) in [
            (serde_json::json!({"volume_keys": ["00"]}), "64 hexadecimal digits"),
            (serde_json::json!({"owner_keys": ["owner.pub"]}), "BEGIN PUBLIC KEY"),
            (serde_json::json!({"owner_key": []}), "unknown field"),
        ] {
            let said = explained(authentic);
            assert!(said.contains(explanation), "{said}");
        }
        let pins = serde_json::json!({"authentic": {"volume_keys": ["0f".repeat(32)]}}).to_string();
        let config = Config::parse(pins.as_bytes()).unwrap();
        assert_eq!(Config::parse(&serde_json::to_vec(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn a_member_given_twice_is_an_error() {
        let text = r#"{"policy": {"allow_unbound": false, "allow_unbound": true}}"#;
        assert_eq!(Config::parse(text.as_bytes()).unwrap_err().slug(), "config-invalid");
    }
}
