//! The source of a volume's keys: the TPM, or a key broker. Each releases one secret after another until one
//! opens the volume.

use super::broker::BrokerKeys;
use super::given::{Given, Unproven};
use super::tpm_keys::TpmKeys;
use crate::report::Account;

/// A source of keys for one volume.
pub(super) enum KeySource<'t, 'a, 's> {
    Tpm(TpmKeys<'t, 'a, 's>),
    Broker(BrokerKeys<'t, 'a, 's>),
}

impl KeySource<'_, '_, '_> {
    /// The next secret, or a token without one and the reason; `None` after the last.
    pub(super) fn next(&mut self, account: &mut Account) -> Option<Result<Given, (u32, Unproven)>> {
        match self {
            Self::Tpm(keys) => keys.next(account).map(Ok),
            Self::Broker(keys) => keys.next(account),
        }
    }

    /// Records the tokens without a secret that were not recorded yet.
    pub(super) fn note_refused(&self, account: &mut Account) {
        match self {
            Self::Tpm(keys) => keys.note_refused(account),
            // Recorded one by one.
            Self::Broker(_) => {}
        }
    }

    /// Why nothing opened the volume. `refusal` is that of the secrets that were released.
    pub(super) fn into_refusal(self, refusal: Option<Unproven>) -> Unproven {
        match self {
            Self::Tpm(keys) => keys.into_refusal(refusal),
            Self::Broker(keys) => keys.into_refusal(refusal),
        }
    }
}
