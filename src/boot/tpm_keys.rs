//! Unseals the secrets for one volume's tokens from the TPM.

use super::fallback::Fallback;
use super::given::{Given, Unproven};
use crate::base::error::Failure;
use crate::base::hex;
use crate::fence::Unfenced;
use crate::format::luks::Snapshot;
use crate::format::token::TokenError;
use crate::policy::mismatch::Mismatch;
use crate::policy::{State, TokenRules};
use crate::report::{Account, PcrReport, TokenReport};
use crate::tpm::Tpm;
use crate::unseal::{Reason, Skipped, Tokens};

/// A TPM in which PCR 15 was zero, and what is known of its PCRs.
pub(super) struct OpenTpm<'a> {
    pub(super) tpm: &'a mut dyn Tpm,
    pub(super) unfenced: &'a Unfenced,
    pub(super) state: State,
    /// It does not answer as a TPM does, and is not asked again.
    pub(super) lost: bool,
}

/// The secrets for one volume.
pub(super) struct TpmKeys<'t, 'a, 's> {
    tpm: &'t mut OpenTpm<'a>,
    tokens: Tokens<'s>,
    rules: TokenRules,
}

impl<'t, 'a, 's> TpmKeys<'t, 'a, 's> {
    pub(super) fn of(snapshot: &'s Snapshot, tpm: &'t mut OpenTpm<'a>, rules: TokenRules) -> Self {
        Self { tpm, tokens: Tokens::of(snapshot), rules }
    }

    /// The next secret; `None` if no further token releases one.
    pub(super) fn next(&mut self, account: &mut Account) -> Option<Given> {
        let OpenTpm { tpm, unfenced, state, .. } = &mut *self.tpm;
        let unseal = || self.tokens.unseal(&mut **tpm, unfenced, &self.rules, state);
        account.stages.time("unseal", unseal).map(|unsealed| Given::Unsealed(Box::new(unsealed)))
    }

    /// Records the tokens that released no secret.
    pub(super) fn note_refused(&self, account: &mut Account) {
        note_skipped(&self.tokens, account);
    }

    /// Why no secret opened the volume. `refusal` is that of the secrets that the TPM released. A token with
    /// a refused keyslot makes it final, whatever else was tried.
    pub(super) fn into_refusal(self, refusal: Option<Unproven>) -> Unproven {
        self.tpm.lost |= self.tokens.is_hopeless();
        let Some(refusal) = refusal else {
            let error = self.tokens.into_error();
            let fallback = Fallback::after(&error);
            return Unproven { error: error.into(), fallback };
        };
        let keyslot = |skipped: &&Skipped| matches!(skipped.reason, Reason::Keyslot(_));
        match self.tokens.skipped().iter().find(keyslot) {
            Some(skipped) => refusal.and(Fallback::after_token(&skipped.reason)),
            None => refusal,
        }
    }
}

/// Records why tokens released no secret. Omits other types (a recovery key's, a key broker's), which the TPM
/// cannot open.
pub(super) fn note_skipped(tokens: &Tokens<'_>, account: &mut Account) {
    let other = |skipped: &&Skipped| matches!(skipped.reason, Reason::Token(TokenError::OtherType));
    for skipped in tokens.skipped().iter().filter(|skipped| !other(skipped)) {
        let differences = skipped.mismatch.iter().flat_map(Mismatch::differences);
        let pcrs = differences
            .map(|difference| PcrReport {
                pcr: difference.pcr.number(),
                enrolled: hex::encode(&difference.enrolled),
                now: hex::encode(&difference.now),
            })
            .collect();
        let token = TokenReport::new(skipped.token, skipped.reason.slug(), skipped.text());
        account.refuse(TokenReport { pcrs, ..token });
    }
}
