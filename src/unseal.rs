//! The stage that asks the TPM: the tokens of a snapshot, written by the host, and an open TPM come in; the secret of the
//! first token that the rules allow and the TPM opens goes out, and for every other one the reason.
//!
//! That a token unseals proves nothing about its volume: the host can seal a secret of its own. The next stage verifies.

use std::collections::BTreeMap;
use std::collections::btree_map;

use base64ct::{Base64, Encoding};
use serde_json::Value;
use thiserror::Error;

use crate::error::{Class, Failure};
use crate::fence::Unfenced;
use crate::luks::token::{Token, TokenError};
use crate::policy::mismatch::{self, Mismatch};
use crate::policy::{self, Plan, Refusal, Rules, State};
use crate::secret::Secret;
use crate::tpm::{Tpm, TpmError};

/// The tokens of a volume, tried one by one in ascending order; the TPM is opened once for all.
pub struct Tokens<'a> {
    left: btree_map::Iter<'a, u32, Value>,
    skipped: Vec<Skipped>,
}

/// A secret that the TPM gave.
pub struct Unsealed {
    token: Token,
    fenced: bool,
    secret: Secret,
}

/// A token that gave no secret.
#[derive(Debug, Error)]
#[error("{}", self.text())]
pub struct Skipped {
    /// The token's number.
    pub token: u32,
    /// Why not.
    pub reason: Reason,
    /// If its policy does not hold: what is known about the PCRs.
    pub mismatch: Option<Mismatch>,
}

impl Skipped {
    /// The reason in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let reason = crate::error::chain(&self.reason);
        match &self.mismatch {
            Some(mismatch) => format!("{reason}: {mismatch}"),
            None => reason,
        }
    }
}

impl<'a> Tokens<'a> {
    /// The tokens of a snapshot.
    #[must_use]
    pub fn new(tokens: &'a BTreeMap<u32, Value>) -> Self {
        Self { left: tokens.iter(), skipped: Vec::new() }
    }

    /// Tries tokens until one gives its secret; `None` if no more will. May be called again, when what was unsealed did
    /// not open its keyslot. PCR values that a token needs are added to `state`.
    ///
    /// `_unfenced` proves that PCR 15 was zero: only then does a policy that holds PCR 15 say that it is zero.
    pub fn unseal(
        &mut self,
        tpm: &mut dyn Tpm,
        _unfenced: &Unfenced,
        rules: &Rules,
        state: &mut State,
    ) -> Option<Unsealed> {
        for (id, value) in self.left.by_ref() {
            match attempt(*id, value, tpm, rules, state) {
                Ok(unsealed) => return Some(unsealed),
                Err((reason, mismatch)) => {
                    let next = Next::after(&reason);
                    self.skipped.push(Skipped { token: *id, reason, mismatch });
                    if next == Next::Stop {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Tries tokens until the policy of one holds for the PCR values of `state`, and says which; `None` if no more
    /// will. No TPM is asked: whether it would load the object, and what is in it, stays open.
    pub fn evaluate(&mut self, rules: &Rules, state: &mut State) -> Option<Token> {
        for (id, value) in self.left.by_ref() {
            match evaluation(*id, value, rules, state) {
                Ok(token) => return Some(token),
                Err((reason, mismatch)) => self.skipped.push(Skipped { token: *id, reason, mismatch }),
            }
        }
        None
    }

    /// What to tell when no token is left: the reason of the one that came nearest to opening.
    #[must_use]
    pub fn into_error(self) -> UnsealError {
        let nearest = self.skipped.into_iter().rev().max_by_key(|skipped| match &skipped.reason {
            Reason::Token(TokenError::OtherType) => 0,
            Reason::Token(_) => 1,
            Reason::Refused(_) => 2,
            Reason::Tpm(_) => 3,
        });
        match nearest {
            None | Some(Skipped { reason: Reason::Token(TokenError::OtherType), .. }) => UnsealError::NoToken,
            Some(skipped) => UnsealError::Refused(skipped),
        }
    }

    /// The tokens that gave no secret so far, and why.
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

    /// Whether the fence will keep everybody from unsealing this token again in this boot.
    #[must_use]
    pub const fn fence_is_effective(&self) -> bool {
        self.fenced
    }

    /// The secret itself: the key of the binding.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The passphrase of the keyslot: the secret in base64, padded, as systemd makes it.
    #[must_use]
    pub fn passphrase(&self) -> Secret {
        passphrase(&self.secret)
    }
}

/// The passphrase of a keyslot whose sealed secret is `secret`.
#[must_use]
pub fn passphrase(secret: &Secret) -> Secret {
    let mut buffer = vec![0; Base64::encoded_len(secret.expose())];
    // The buffer has the length that the library asks for, so encoding cannot fail; an empty passphrase opens nothing.
    let length = Base64::encode(secret.expose(), &mut buffer).map_or(0, str::len);
    buffer.truncate(length);
    Secret::new(buffer)
}

/// A plan for a signed policy is made from PCR values that were read before: if they changed meanwhile, once anew.
fn attempt(
    id: u32,
    value: &Value,
    tpm: &mut dyn Tpm,
    rules: &Rules,
    state: &mut State,
) -> Result<Unsealed, (Reason, Option<Mismatch>)> {
    let token = Token::parse(id, value).map_err(|error| (error.into(), None))?;
    let needs = policy::needs(&token, &state.active).filter(|(bank, _)| state.active.contains(bank));
    let planned = |tpm: &mut dyn Tpm, state: &mut State| -> Result<(Secret, bool), Reason> {
        if let Some((bank, pcrs)) = needs {
            state.readings.ensure(tpm, bank, pcrs)?;
        }
        let Plan { parent, steps, fenced } = policy::plan(&token, rules, state)?;
        Ok((tpm.unseal(&token.sealed, &parent, &steps)?, fenced))
    };
    let mut outcome = planned(tpm, state);
    if let (Err(Reason::Tpm(TpmError::PcrChanged)), Some((bank, pcrs))) = (&outcome, needs) {
        state.readings.forget(bank, pcrs);
        outcome = planned(tpm, state);
    }
    match outcome {
        Ok((secret, fenced)) => Ok(Unsealed { token, fenced, secret }),
        Err(reason @ Reason::Tpm(TpmError::PcrMismatch)) => {
            Err((reason, explain(&token, value, Some(tpm), state)))
        }
        Err(reason) => Err((reason, None)),
    }
}

fn evaluation(
    id: u32,
    value: &Value,
    rules: &Rules,
    state: &mut State,
) -> Result<Token, (Reason, Option<Mismatch>)> {
    let token = Token::parse(id, value).map_err(|error| (error.into(), None))?;
    let plan = policy::plan(&token, rules, state).map_err(|error| (error.into(), None))?;
    match plan.digest(&state.readings) {
        Some(digest) if digest == token.policy_digest => Ok(token),
        Some(_) => Err((TpmError::PcrMismatch.into(), explain(&token, value, None, state))),
        None => {
            let (bank, pcrs) = policy::concerns(&token, &state.active);
            Err((Refusal::PcrUnknown { bank, pcrs }.into(), None))
        }
    }
}

/// What is known about the PCRs of a policy that does not hold; nothing if they cannot be read.
fn explain(token: &Token, value: &Value, tpm: Option<&mut dyn Tpm>, state: &mut State) -> Option<Mismatch> {
    let (bank, _) = policy::concerns(token, &state.active);
    if let Some(tpm) = tpm {
        state.readings.ensure(tpm, bank, token.pcrs).ok()?;
    }
    let now = state.readings.get(bank, token.pcrs)?;
    Some(Mismatch::of(token, mismatch::recorded(value, bank).as_ref(), &now))
}

/// Why a volume's secret was not unsealed.
#[derive(Debug, Error)]
pub enum UnsealError {
    /// No token for a TPM.
    #[error("The volume has no token for a TPM")]
    NoToken,
    /// None of them gave its secret; this one came nearest.
    #[error("Token {} does not open the volume", .0.token)]
    Refused(#[source] Skipped),
}

impl Failure for UnsealError {
    fn slug(&self) -> &'static str {
        match self {
            Self::NoToken => "token-none",
            Self::Refused(skipped) => skipped.reason.slug(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::NoToken => Class::Data,
            Self::Refused(skipped) => skipped.reason.class(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::NoToken => "Enrol the volume: cvm-unlock enroll",
            Self::Refused(skipped) => skipped.reason.hint(),
        }
    }
}

/// Why a token gave no secret.
#[derive(Debug, Error)]
pub enum Reason {
    /// It cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// We do not ask the TPM.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The TPM does not open it.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl Failure for Reason {
    fn slug(&self) -> &'static str {
        match self {
            Self::Token(error) => error.slug(),
            Self::Refused(error) => error.slug(),
            Self::Tpm(error) => error.slug(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Token(error) => error.class(),
            Self::Refused(error) => error.class(),
            Self::Tpm(error) => error.class(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Token(error) => error.hint(),
            Self::Refused(error) => error.hint(),
            Self::Tpm(error) => error.hint(),
        }
    }
}

/// Whether a reason concerns one token or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another token may open.
    Token,
    /// The TPM will not open any.
    Stop,
}

impl Next {
    /// The decision. A lockout does not stop us: our objects are exempt from it, and no token is tried twice.
    #[must_use]
    pub const fn after(reason: &Reason) -> Self {
        match reason {
            Reason::Token(_) | Reason::Refused(_) => Self::Token,
            Reason::Tpm(error) => match error {
                TpmError::Absent { .. }
                | TpmError::Busy { .. }
                | TpmError::Open { .. }
                | TpmError::Transport { .. }
                | TpmError::Transient { .. }
                | TpmError::Memory { .. }
                | TpmError::PcrChanged
                | TpmError::Forged { .. } => Self::Stop,
                TpmError::Lockout { .. }
                | TpmError::PcrMismatch
                | TpmError::SignatureInvalid
                | TpmError::ForeignTpm { .. }
                | TpmError::SrkAbsent
                | TpmError::SrkOther
                | TpmError::OwnerAuth { .. }
                | TpmError::PcrUnreadable { .. }
                | TpmError::Refused { .. }
                | TpmError::Library { .. } => Self::Token,
            },
        }
    }
}

#[cfg(test)]
#[path = "unseal/tests.rs"]
mod tests;
