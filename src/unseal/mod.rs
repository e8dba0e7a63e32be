//! Unseals a volume's secret: tries the tokens of a snapshot until the rules allow one and the TPM opens it.
//! Every other token gets a reason. Tokens are untrusted.
//!
//! That a token unseals proves nothing about its volume, because the host can seal a secret of its own. The
//! next stage verifies the volume.

mod reason;

use std::collections::BTreeMap;
use std::collections::btree_map;

use serde_json::Value;
use thiserror::Error;

use crate::base::secret::Secret;
use crate::fence::Unfenced;
use crate::format::luks::{HeaderError, Snapshot};
use crate::format::token::TokenError;
use crate::format::token::passphrase::passphrase;
use crate::format::token::systemd_tpm2::Token;
use crate::policy;
use crate::policy::mismatch::Mismatch;
use crate::policy::{Plan, PolicyRefusal, State, TokenRules};
use crate::tpm::{Tpm, TpmError};
pub use reason::{NextToken, Reason, UnsealError};

/// The tokens of a volume, each tried once in ascending order.
pub struct Tokens<'a> {
    left: btree_map::Iter<'a, u32, Value>,
    judge: Box<Judge<'a>>,
    skipped: Vec<Skipped>,
}

/// A secret that the TPM released.
pub struct Unsealed {
    token: Token,
    fenced: bool,
    secret: Secret,
}

/// A token that released no secret.
#[derive(Debug, Error)]
#[error("{}", self.text())]
pub struct Skipped {
    /// The token's number.
    pub token: u32,
    /// Why.
    pub reason: Reason,
    /// If its policy fails: what is known about the PCRs.
    pub mismatch: Option<Mismatch>,
}

impl Skipped {
    /// The reason in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let reason = crate::base::error::chain(&self.reason);
        match &self.mismatch {
            Some(mismatch) => format!("{reason}: {mismatch}"),
            None => reason,
        }
    }
}

impl<'a> Tokens<'a> {
    /// The tokens of a snapshot. Their keyslots are checked before a secret is requested.
    #[must_use]
    pub fn of(snapshot: &'a Snapshot) -> Self {
        Self::among(snapshot.tokens(), snapshot)
    }

    /// Some of a snapshot's tokens.
    #[must_use]
    pub fn among(tokens: &'a BTreeMap<u32, Value>, snapshot: &'a Snapshot) -> Self {
        Self::new(tokens, |keyslot| snapshot.keyslot(keyslot).map(drop))
    }

    fn new(tokens: &'a BTreeMap<u32, Value>, judge: impl Fn(u32) -> Result<(), HeaderError> + 'a) -> Self {
        Self { left: tokens.iter(), judge: Box::new(judge), skipped: Vec::new() }
    }

    /// Tries tokens until one releases its secret; `None` when none is left. Call it again if the secret did
    /// not open its keyslot. PCR values that a token needs are added to `state`.
    ///
    /// `_unfenced` proves that PCR 15 was zero: only then does a policy that binds PCR 15 require zero.
    pub fn unseal(
        &mut self,
        tpm: &mut dyn Tpm,
        _unfenced: &Unfenced,
        rules: &TokenRules,
        state: &mut State,
    ) -> Option<Unsealed> {
        for (id, value) in self.left.by_ref() {
            match attempt(*id, value, &self.judge, tpm, rules, state) {
                Ok(unsealed) => return Some(unsealed),
                Err((reason, mismatch)) => {
                    let next = NextToken::after(&reason);
                    self.skipped.push(Skipped { token: *id, reason, mismatch });
                    if next == NextToken::Stop {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Finds the first token whose policy holds for the PCR values in `state`; `None` when none is left. It
    /// asks no TPM, so it does not show whether a TPM would load the object, or what the object contains.
    pub fn evaluate(&mut self, rules: &TokenRules, state: &mut State) -> Option<Token> {
        for (id, value) in self.left.by_ref() {
            match evaluation(*id, value, &self.judge, rules, state) {
                Ok(token) => return Some(token),
                Err((reason, mismatch)) => self.skipped.push(Skipped { token: *id, reason, mismatch }),
            }
        }
        None
    }

    /// The error when no token is left: the reason of the token that came closest to opening.
    #[must_use]
    pub fn into_error(self) -> UnsealError {
        let nearest = self.skipped.into_iter().rev().max_by_key(|skipped| match &skipped.reason {
            Reason::Token(TokenError::OtherType) => 0,
            Reason::Token(_) => 1,
            Reason::Refused(_) => 2,
            Reason::Tpm(_) => 3,
            // The most telling reason: the header was edited, or the volume is not meant for us.
            Reason::Keyslot(_) => 4,
        });
        match nearest {
            None | Some(Skipped { reason: Reason::Token(TokenError::OtherType), .. }) => UnsealError::NoToken,
            Some(skipped) => UnsealError::Refused(skipped),
        }
    }

    /// Whether the TPM will open no token of any volume: it does not answer, or not as a TPM does.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.skipped.iter().any(|skipped| NextToken::after(&skipped.reason) == NextToken::Stop)
    }

    /// The tokens that released no secret so far, and why.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }
}

impl Unsealed {
    /// The token that was unsealed.
    #[must_use]
    pub const fn token(&self) -> &Token {
        &self.token
    }

    /// Whether nobody can unseal this token again in this boot once the fence is raised.
    #[must_use]
    pub const fn fence_is_effective(&self) -> bool {
        self.fenced
    }

    /// The secret itself, which is the key of the binding.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The passphrase of the keyslot: the secret in padded base64, as systemd encodes it.
    #[must_use]
    pub fn passphrase(&self) -> Secret {
        passphrase(&self.secret)
    }
}

type Failed = (Reason, Option<Mismatch>);
type Judge<'a> = dyn Fn(u32) -> Result<(), HeaderError> + 'a;

/// Tries one token. Its keyslot is checked once its policy is one that we try, and before the TPM releases a
/// secret for it.
///
/// A plan for a signed policy uses PCR values read earlier; if they changed meanwhile, one more plan is made
/// from fresh values.
fn attempt(
    id: u32,
    value: &Value,
    judge: &Judge<'_>,
    tpm: &mut dyn Tpm,
    rules: &TokenRules,
    state: &mut State,
) -> Result<Unsealed, Failed> {
    let token = Token::parse(id, value).map_err(|error| (error.into(), None))?;
    let needs = policy::needs(&token, &state.active).filter(|(bank, _)| state.active.contains(bank));
    let planned = |tpm: &mut dyn Tpm, state: &mut State| -> Result<(Secret, bool), Reason> {
        if let Some((bank, pcrs)) = needs {
            state.readings.ensure(tpm, bank, pcrs)?;
        }
        let Plan { parent, steps, fenced } = policy::plan(&token, rules, state)?;
        judge(token.keyslot)?;
        Ok((tpm.unseal(&token.sealed, &parent, &steps)?, fenced))
    };
    let mut outcome = planned(tpm, state);
    if let (Err(Reason::Tpm(TpmError::PcrChanged)), Some((bank, pcrs))) = (&outcome, needs) {
        state.readings.forget(bank, pcrs);
        outcome = planned(tpm, state);
    }
    match outcome {
        Ok((secret, fenced)) => Ok(Unsealed { token, fenced, secret }),
        Err(reason @ Reason::Tpm(TpmError::PcrMismatch)) => Err((reason, explain(&token, Some(tpm), state))),
        Err(reason) => Err((reason, None)),
    }
}

fn evaluation(
    id: u32,
    value: &Value,
    judge: &Judge<'_>,
    rules: &TokenRules,
    state: &mut State,
) -> Result<Token, Failed> {
    let token = Token::parse(id, value).map_err(|error| (error.into(), None))?;
    let plan = policy::plan(&token, rules, state).map_err(|error| (error.into(), None))?;
    judge(token.keyslot).map_err(|error| (error.into(), None))?;
    match plan.digest(&state.readings) {
        Some(digest) if digest == token.policy_digest => Ok(token),
        Some(_) => Err((TpmError::PcrMismatch.into(), explain(&token, None, state))),
        None => {
            let (bank, pcrs) = policy::concerns(&token, &state.active);
            Err((PolicyRefusal::PcrUnknown { bank, pcrs }.into(), None))
        }
    }
}

/// What is known about the PCRs of a policy that fails; `None` if they cannot be read.
fn explain(token: &Token, tpm: Option<&mut dyn Tpm>, state: &mut State) -> Option<Mismatch> {
    let (bank, _) = policy::concerns(token, &state.active);
    if let Some(tpm) = tpm {
        state.readings.ensure(tpm, bank, token.pcrs).ok()?;
    }
    let now = state.readings.get(bank, token.pcrs)?;
    Some(Mismatch::of(token, &now))
}

#[cfg(test)]
mod tests;
