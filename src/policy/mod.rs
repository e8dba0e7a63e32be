//! What a token's policy demands of the TPM. A token, written by the host, and the measured configuration's rules come
//! in; the ordered policy commands go out, or the reason why we do not even ask. Pure.

pub mod literal;
pub mod pcrs;

use thiserror::Error;

use crate::error::{Class, Failure};
use crate::luks::token::{Kind, Token};
use crate::pcr::{Bank, Pcr};
use crate::tpm::{Parent, Step};

/// What the measured configuration allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Tokens that unseal in every state of their TPM.
    pub allow_unbound: bool,
    /// Only tokens that cannot be unsealed again once the fence stands.
    pub require_fence: bool,
}

/// What to ask of the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The key below which the object is loaded.
    pub parent: Parent,
    /// The policy commands, in order.
    pub steps: Vec<Step>,
    /// Whether PCR 15 is part of the policy. It is zero when we unseal, so then the policy says that it is.
    pub fenced: bool,
}

/// The plan for `token` on a TPM with these active banks.
///
/// # Errors
/// The rules forbid the token, it is of a kind that we do not open, or it contradicts itself.
pub fn plan(token: &Token, rules: &Rules, active: &[Bank]) -> Result<Plan, Refusal> {
    let steps = match token.kind() {
        Kind::Pin => return Err(Refusal::Pin),
        Kind::Signed => return Err(Refusal::Signed),
        Kind::Pcrlock => return Err(Refusal::Pcrlock),
        Kind::Sharded => return Err(Refusal::Sharded),
        Kind::Unbound if !rules.allow_unbound => return Err(Refusal::Unbound),
        Kind::Unbound => Vec::new(),
        Kind::Literal => vec![Step::Pcr(bank(token, active)?, token.pcrs)],
    };
    if token.sealed.seed().is_some() {
        return Err(Refusal::Import);
    }
    if token.policy_digest != token.sealed.facts().auth_policy {
        return Err(Refusal::Inconsistent);
    }
    if (token.policy_digest == literal::EMPTY) != steps.is_empty() {
        return Err(Refusal::Inconsistent);
    }
    let fenced = token.pcrs.contains(Pcr::FENCE);
    if rules.require_fence && !fenced {
        return Err(Refusal::FenceIneffective);
    }
    let parent = match &token.srk {
        Some(srk) => Parent::Persistent(srk.clone()),
        None => Parent::Legacy(token.primary),
    };
    Ok(Plan { parent, steps, fenced })
}

/// The bank of a literal policy. A token without one is from systemd 248 or 249, which took SHA-256, or else SHA-1.
fn bank(token: &Token, active: &[Bank]) -> Result<Bank, Refusal> {
    let bank = match token.bank {
        Some(bank) => bank,
        None if active.contains(&Bank::Sha256) => Bank::Sha256,
        None => Bank::Sha1,
    };
    if active.contains(&bank) { Ok(bank) } else { Err(Refusal::BankInactive(bank)) }
}

/// Why a token is not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It needs a PIN.
    #[error("Token needs a PIN, and nobody is there to type it")]
    Pin,
    /// It unseals in every state of its TPM.
    #[error("Token is not bound to any state of the machine")]
    Unbound,
    /// It has a signed policy.
    #[error("Token's policy is signed, which is not supported yet")]
    Signed,
    /// It has a pcrlock policy.
    #[error("Token's policy is systemd-pcrlock's, which is not supported yet")]
    Pcrlock,
    /// Its secret is split into two objects.
    #[error("Token's secret is split, which is not supported yet")]
    Sharded,
    /// Its object was made away from the TPM.
    #[error("Token's object has to be imported, which is not supported yet")]
    Import,
    /// Its members contradict each other.
    #[error("Token's policy is not that of its sealed object")]
    Inconsistent,
    /// Its bank is not active.
    #[error("Token's PCR bank {0} is not active in the TPM")]
    BankInactive(Bank),
    /// Its policy does not hold PCR 15.
    #[error("Token's policy leaves PCR 15 out: its secret could be unsealed again in the same boot")]
    FenceIneffective,
}

impl Failure for Refusal {
    fn slug(&self) -> &'static str {
        match self {
            Self::Pin => "token-pin",
            Self::Unbound => "token-unbound",
            Self::Signed => "token-signed-unsupported",
            Self::Pcrlock => "token-pcrlock-unsupported",
            Self::Sharded => "token-sharded-unsupported",
            Self::Import => "token-import-unsupported",
            Self::Inconsistent => "token-inconsistent",
            Self::BankInactive(_) => "bank-inactive",
            Self::FenceIneffective => "fence-ineffective",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Inconsistent => Class::Data,
            _ => Class::Refused,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Inconsistent => "",
            Self::Unbound => {
                "enrol with --tpm2-pcrs=, or set policy.allow_unbound in the measured configuration"
            }
            Self::FenceIneffective => {
                "enrol with cvm-unlock, or clear policy.require_fence in the measured configuration"
            }
            _ => "enrol with cvm-unlock enroll",
        }
    }
}

#[cfg(test)]
mod tests;
