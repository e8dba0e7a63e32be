//! The part of a report about what opened the volume: the token's policy, and the volume's proofs.

use serde::{Deserialize, Serialize};

use crate::base::pcr::{Pcr, PcrMask};
use crate::format::token::systemd_tpm2::Token;
use crate::prove::authentic::Authenticity;

/// The volume's proofs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofReport {
    /// Whether the keyslot's metadata is what was bound to the sealed secret.
    pub binding: BindingReport,
    /// The proof that the owner made the volume.
    pub authenticity: AuthenticityReport,
    /// The owner key that signed it: SHA-256 of its `SubjectPublicKeyInfo` in DER, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_key: Option<String>,
}

/// The binding of a keyslot's metadata. A violated one opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingReport {
    /// The binding was verified.
    Verified,
    /// The token has none, and the configuration requires none.
    Absent,
}

/// The proof that the owner made a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthenticityReport {
    /// The configuration pins the volume's key.
    VolumeKeyPin,
    /// A key of the configuration signed it.
    OwnerSignature,
    /// The key came from a key broker that the configuration pins.
    KeyBroker,
    /// None, and the configuration requires none; a warning says what is missing.
    Absent,
}

/// The policy under which the TPM released the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Its kind, as `inspect` names it: `literal`, `signed`, `unbound`.
    pub kind: String,
    /// PCRs by value.
    #[serde(default)]
    pub pcrs: Vec<u8>,
    /// PCRs by signature.
    #[serde(default)]
    pub signed_pcrs: Vec<u8>,
}

impl ProofReport {
    /// The proofs of an accepted volume.
    #[must_use]
    pub fn new(bound: bool, authenticity: Option<Authenticity>) -> Self {
        let (by, owner_key) = match authenticity {
            Some(Authenticity::Pinned) => (AuthenticityReport::VolumeKeyPin, None),
            Some(Authenticity::Signed(key)) => (AuthenticityReport::OwnerSignature, Some(key.to_string())),
            Some(Authenticity::KeyBroker) => (AuthenticityReport::KeyBroker, None),
            None => (AuthenticityReport::Absent, None),
        };
        let binding = if bound { BindingReport::Verified } else { BindingReport::Absent };
        Self { binding, authenticity: by, owner_key }
    }
}

impl PolicyReport {
    /// The policy of `token`.
    #[must_use]
    pub fn of(token: &Token) -> Self {
        let numbers = |pcrs: PcrMask| pcrs.iter().map(Pcr::number).collect();
        Self {
            kind: token.kind().name().to_owned(),
            pcrs: numbers(token.pcrs),
            signed_pcrs: token.signed.as_ref().map(|signed| numbers(signed.pcrs)).unwrap_or_default(),
        }
    }
}
