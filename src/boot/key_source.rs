//! Where the keys of a volume come from: the TPM, or a key broker. Each gives one secret after another until one opens the
//! volume.

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
