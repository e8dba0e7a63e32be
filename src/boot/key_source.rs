//! Where the keys of a volume come from: the TPM, or a key broker. Each gives one secret after another until one opens the
//! volume.

use super::broker::BrokerKeys;
use super::fallback::Fallback;
use super::tpm_keys::TpmKeys;
use crate::attest::Delivered;
use crate::base::error::{Error, Failure};
use crate::base::source::Source;
use crate::format::luks::Snapshot;
use crate::format::token::key_broker::KbsToken;
use crate::prove::settings::ProofRules;
use crate::prove::{self, Verified};
use crate::report::{Account, VolumeReport};
use crate::unseal::Unsealed;

/// A source of keys for one volume.
pub(super) enum KeySource<'t, 'a, 's> {
    Tpm(TpmKeys<'t, 'a, 's>),
    Broker(BrokerKeys<'t, 'a, 's>),
}

/// A secret that a source gave for a token.
pub(super) enum Given {
    /// The TPM released it under the token's policy.
    Unsealed(Box<Unsealed>),
    /// A pinned server released it under its own policy.
    Delivered(Box<(KbsToken, Delivered)>),
}

/// Why a volume did not prove itself by one source, and whether another one may be asked.
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
    /// Nobody else is asked.
    pub(super) const fn finally(error: Error) -> Self {
        Self { error, fallback: Fallback::Final }
    }

    pub(super) fn and(self, other: Fallback) -> Self {
        Self { fallback: self.fallback.and(other), ..self }
    }
}

impl KeySource<'_, '_, '_> {
    /// The next secret; or a token that gives none, and why; or `None` after the last one.
    pub(super) fn next(&mut self, account: &mut Account) -> Option<Result<Given, (u32, Unproven)>> {
        match self {
            Self::Tpm(keys) => keys.next(account).map(Ok),
            Self::Broker(keys) => keys.next(account),
        }
    }

    /// Notes what has not been noted yet about tokens that gave nothing.
    pub(super) fn note_refused(&self, account: &mut Account) {
        match self {
            Self::Tpm(keys) => keys.note_refused(account),
            // Noted one by one.
            Self::Broker(_) => {}
        }
    }

    /// Why nothing opened the volume, after `refusal` of the secrets that were given.
    pub(super) fn into_refusal(self, refusal: Option<Unproven>) -> Unproven {
        match self {
            Self::Tpm(keys) => keys.into_refusal(refusal),
            Self::Broker(keys) => keys.into_refusal(refusal),
        }
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

    /// Says in the report which token opened the volume.
    pub(super) fn note_opened(&self, volume: &mut VolumeReport) {
        match self {
            Self::Unsealed(unsealed) => volume.opened_by(unsealed.token()),
            Self::Delivered(given) => {
                (volume.token, volume.keyslot) = (Some(given.0.id), Some(given.0.keyslot));
            }
        }
    }
}
