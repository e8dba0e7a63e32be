//! A secret that a key source released for a token, and what it proves.

use super::fallback::Fallback;
use crate::attest::Delivered;
use crate::base::error::{Error, Failure};
use crate::base::source::Source;
use crate::format::luks::Snapshot;
use crate::format::token::key_broker::KeyBrokerToken;
use crate::prove;
use crate::prove::Verified;
use crate::prove::settings::ProofRules;
use crate::report::VolumeReport;
use crate::unseal::Unsealed;

/// A secret that a key source released for a token.
pub(super) enum Given {
    /// The TPM released it under the token's policy.
    Unsealed(Box<Unsealed>),
    /// A pinned key broker released it under its own policy.
    Delivered(Box<(KeyBrokerToken, Delivered)>),
}

/// Why a volume is not proven by one key source, and whether another one may be asked.
pub(super) struct Unproven {
    pub(super) error: Error,
    pub(super) fallback: Fallback,
}

impl<F: Failure> From<F> for Unproven {
    fn from(failure: F) -> Self {
        Self { error: failure.into(), fallback: Fallback::Final }
    }
}

impl Unproven {
    /// Without a fallback.
    pub(super) const fn finally(error: Error) -> Self {
        Self { error, fallback: Fallback::Final }
    }

    pub(super) fn and(self, other: Fallback) -> Self {
        Self { fallback: self.fallback.and(other), ..self }
    }
}

impl Given {
    /// The token's number.
    pub(super) const fn token(&self) -> u32 {
        match self {
            Self::Unsealed(unsealed) => unsealed.token().id,
            Self::Delivered(delivered) => delivered.0.id,
        }
    }

    /// Opens the token's keyslot and judges the volume.
    pub(super) fn prove<S: Source + ?Sized>(
        &self,
        snapshot: &Snapshot,
        source: &S,
        rules: ProofRules<'_>,
    ) -> Result<Verified, Unproven> {
        let verified = match self {
            Self::Unsealed(unsealed) => {
                let area = snapshot.read_area(source, unsealed.token().keyslot)?;
                prove::verify(unsealed, snapshot, &area, rules)
            }
            Self::Delivered(given) => {
                let (token, delivered) = &**given;
                let area = snapshot.read_area(source, token.keyslot)?;
                prove::verify_delivered(token, delivered, snapshot, &area, rules)
            }
        };
        verified.map_err(|error| {
            let fallback = Fallback::after_secret(&error);
            Unproven { error: error.into(), fallback }
        })
    }

    /// Records in the report which token opened the volume.
    pub(super) fn note_opened(&self, volume: &mut VolumeReport) {
        match self {
            Self::Unsealed(unsealed) => volume.opened_by(unsealed.token()),
            Self::Delivered(given) => {
                (volume.token, volume.keyslot) = (Some(given.0.id), Some(given.0.keyslot));
            }
        }
    }
}
