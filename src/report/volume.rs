//! The part of a report about a volume.

use serde::{Deserialize, Serialize};

use super::{AttestationReport, PolicyReport, ProofReport};
use crate::base::error::Error;
use crate::format::token::systemd_tpm2::Token;
#[cfg(feature = "native")]
use crate::prove::Proven;

/// A volume, and what opened it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Device, or image file.
    pub device: String,
    /// UUID in the LUKS2 header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub luks_uuid: Option<String>,
    /// UUID of the GPT partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_uuid: Option<String>,
    /// Token that opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u32>,
    /// Keyslot that opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyslot: Option<u32>,
    /// The policy of that token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyReport>,
    /// The volume's proofs; absent if nothing was unsealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofReport>,
    /// Who released the key, if the TPM did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<AttestationReport>,
    /// Name of the mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
}

impl VolumeReport {
    /// Records the token whose policy holds.
    pub fn opened_by(&mut self, token: &Token) {
        self.token = Some(token.id);
        self.keyslot = Some(token.keyslot);
        self.policy = Some(PolicyReport::of(token));
    }

    /// The same volume, mapped as `mapping`.
    #[must_use]
    pub fn mapped_as(self, mapping: String) -> Self {
        Self { mapping: Some(mapping), ..self }
    }

    /// Records the volume's proofs.
    #[cfg(feature = "native")]
    pub fn proven(&mut self, proven: &Proven) {
        self.proof = Some(ProofReport::new(proven.bound, proven.authenticity));
    }
}

/// Why a volume is not the root volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefusedVolume {
    /// Device.
    pub device: String,
    /// UUID of the GPT partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_uuid: Option<String>,
    /// Stable name of the reason.
    pub slug: String,
    /// One line.
    pub message: String,
}

impl RefusedVolume {
    /// Why `volume` was refused.
    #[must_use]
    pub fn new(volume: &VolumeReport, error: &Error) -> Self {
        Self {
            device: volume.device.clone(),
            partition_uuid: volume.partition_uuid.clone(),
            slug: error.slug().to_owned(),
            message: error.chain(),
        }
    }
}
