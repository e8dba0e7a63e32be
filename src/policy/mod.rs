//! What a token's policy demands of the TPM. A token and signatures, written by the host, PCR values and the measured
//! configuration's rules come in; the ordered policy steps go out, or the reason why we do not even ask. Pure.

pub mod approved;
pub mod key;
pub mod literal;
pub mod mismatch;
pub mod pcrs;
pub mod signature;

use thiserror::Error;

use crate::error::{Class, Failure};
use crate::hex;
use crate::luks::token::{Kind, Signed, Token};
use crate::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::tpm::readings::Readings;
use crate::tpm::{Authorization, Parent, Step};
use key::{Exponent, KeyError, PolicyKey};
use signature::{Signatures, Subject};

/// What the measured configuration allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Tokens that unseal in every state of their TPM.
    pub allow_unbound: bool,
    /// Only tokens that cannot be unsealed again once the fence stands.
    pub require_fence: bool,
}

/// What is known about the machine when a token is judged.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The TPM's active banks.
    pub active: Vec<Bank>,
    /// PCR values; for a plan at least those that the token [`needs`].
    pub readings: Readings,
    /// The signed policies that were found.
    pub signatures: Signatures,
}

impl State {
    /// What is known at entry: the active banks.
    #[must_use]
    pub fn at_entry(active: &[Bank]) -> Self {
        Self { active: active.to_vec(), ..Self::default() }
    }
}

/// What to ask of the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The key below which the object is loaded.
    pub parent: Parent,
    /// The policy's steps, in order.
    pub steps: Vec<Step>,
    /// Whether PCR 15 is part of the policy by value. It is zero when we unseal, so then the policy says that it is.
    pub fenced: bool,
}

impl Plan {
    /// The digest that a TPM with these PCR values would come to; `None` if it would refuse, or a value is not known.
    #[must_use]
    pub fn digest(&self, readings: &Readings) -> Option<[u8; 32]> {
        self.steps.iter().try_fold(literal::EMPTY, |digest, step| match step {
            Step::Pcr(bank, mask) => Some(literal::extend(digest, &readings.get(*bank, *mask)?)),
            Step::Authorize(authorization) => approved::extend(digest, authorization),
        })
    }
}

/// The PCRs whose values a plan for `token` is made from: those of a signed policy, and those beside it.
#[must_use]
pub fn needs(token: &Token, active: &[Bank]) -> Option<(Bank, PcrMask)> {
    match (token.kind(), &token.signed) {
        (Kind::Signed, Some(signed)) => {
            Some((bank_of(token, active), signed.pcrs.iter().chain(token.pcrs.iter()).collect()))
        }
        _ => None,
    }
}

/// All PCRs that `token`'s policy is about.
#[must_use]
pub fn concerns(token: &Token, active: &[Bank]) -> (Bank, PcrMask) {
    needs(token, active).unwrap_or_else(|| (bank_of(token, active), token.pcrs))
}

/// What to read together with PCR 15 at entry: PCRs that plans will need, then others, as many as fit into one answer of a
/// TPM if PCR 15 comes from four banks.
#[must_use]
pub fn at_entry(tokens: &[Token]) -> Vec<(Bank, PcrMask)> {
    let active = [Bank::Sha256];
    let needed = tokens.iter().filter_map(|token| needs(token, &active));
    let other =
        tokens.iter().filter(|token| token.kind() == Kind::Literal).map(|token| concerns(token, &active));
    let pcrs = needed.chain(other).flat_map(|(bank, pcrs)| pcrs.iter().map(move |pcr| (bank, pcr)));
    let mut chosen: Vec<(Bank, PcrMask)> = Vec::new();
    let mut left = AT_ENTRY;
    for (bank, pcr) in pcrs.filter(|(_, pcr)| *pcr != Pcr::FENCE) {
        match chosen.iter_mut().find(|(other, _)| *other == bank) {
            Some((_, mask)) if mask.contains(pcr) => continue,
            _ if left == 0 => break,
            Some((_, mask)) => *mask = mask.with(pcr),
            None => chosen.push((bank, PcrMask::EMPTY.with(pcr))),
        }
        left -= 1;
    }
    chosen
}

/// The plan for `token`.
///
/// # Errors
/// The rules forbid the token, it is of a kind that we do not open, it contradicts itself, or nobody signed the PCRs as
/// they are.
pub fn plan(token: &Token, rules: &Rules, state: &State) -> Result<Plan, Refusal> {
    let kind = token.kind();
    match kind {
        Kind::Pin => return Err(Refusal::Pin),
        Kind::Pcrlock => return Err(Refusal::Pcrlock),
        Kind::Sharded => return Err(Refusal::Sharded),
        Kind::Unbound if !rules.allow_unbound => return Err(Refusal::Unbound),
        Kind::Unbound | Kind::Literal | Kind::Signed => {}
    }
    if token.policy_digest != token.sealed.facts().auth_policy
        || (token.policy_digest == literal::EMPTY) != (kind == Kind::Unbound)
    {
        return Err(Refusal::Inconsistent);
    }
    let bank = bank_of(token, &state.active);
    if kind != Kind::Unbound && !state.active.contains(&bank) {
        return Err(Refusal::BankInactive(bank));
    }
    let fenced = token.pcrs.contains(Pcr::FENCE);
    if rules.require_fence && !fenced {
        return Err(Refusal::FenceIneffective);
    }
    let mut steps = match (kind, &token.signed) {
        (Kind::Signed, Some(signed)) => signed_steps(token, signed, bank, state)?,
        _ => Vec::new(),
    };
    if !token.pcrs.is_empty() {
        steps.push(Step::Pcr(bank, token.pcrs));
    }
    let parent = match &token.srk {
        Some(srk) => Parent::Persistent(srk.clone()),
        None => Parent::Legacy(token.primary),
    };
    Ok(Plan { parent, steps, fenced })
}

/// The policy digests that `token` may have if the PCRs it names by value are `values`: two with a signed policy, as
/// its key can be written in two ways.
fn digests(token: &Token, key: Option<&PolicyKey>, values: &PcrValues) -> Vec<(Exponent, [u8; 32])> {
    let reference = approved::reference(token.signed.as_ref().and_then(|signed| signed.reference.as_deref()));
    let before =
        |exponent| key.map_or(literal::EMPTY, |key| approved::digest(&key.name(exponent), &reference));
    let digest = |exponent| match values.mask().is_empty() {
        true => before(exponent),
        false => literal::extend(before(exponent), values),
    };
    [Exponent::Explicit, Exponent::Default].map(|exponent| (exponent, digest(exponent))).to_vec()
}

/// `TPM2_PolicyPCR` over the PCRs as they are, and the approval of that.
fn signed_steps(token: &Token, signed: &Signed, bank: Bank, state: &State) -> Result<Vec<Step>, Refusal> {
    let key = PolicyKey::from_pem(&signed.key).map_err(Refusal::PolicyKey)?;
    let values = |mask| state.readings.get(bank, mask).ok_or(Refusal::PcrUnknown { bank, pcrs: mask });
    let possible = digests(token, Some(&key), &values(token.pcrs)?);
    let exponent = possible.iter().find(|(_, digest)| *digest == token.policy_digest);
    let exponent = match exponent {
        Some((exponent, _)) => *exponent,
        // Without PCRs by value, nothing but the key and the reference is in the digest.
        None if token.pcrs.is_empty() => return Err(Refusal::Inconsistent),
        // A PCR is another: the TPM will say so.
        None => Exponent::Explicit,
    };
    let subject = Subject {
        bank,
        pcrs: signed.pcrs,
        fingerprint: *key.fingerprint(),
        reference: signed.reference.clone(),
    };
    let approved = literal::digest(&values(signed.pcrs)?);
    let Some(approval) = state.signatures.find(&subject, &approved) else {
        let others = state.signatures.about(&subject).count();
        return Err(Refusal::NotSigned { subject: Box::new(subject), others });
    };
    let authorization = Authorization {
        key: key.public(exponent),
        name: key.name(exponent),
        approved,
        reference: approved::reference(signed.reference.as_deref()),
        signature: approval.signature.clone(),
    };
    Ok(vec![Step::Pcr(bank, signed.pcrs), Step::Authorize(Box::new(authorization))])
}

/// The bank of a policy. A token without one is from systemd 248 or 249, which took SHA-256, or else SHA-1.
fn bank_of(token: &Token, active: &[Bank]) -> Bank {
    match token.bank {
        Some(bank) => bank,
        None if active.contains(&Bank::Sha256) => Bank::Sha256,
        None => Bank::Sha1,
    }
}

/// Why a token is not tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It needs a PIN.
    #[error("Token needs a PIN, and nobody is there to type it")]
    Pin,
    /// It unseals in every state of its TPM.
    #[error("Token is not bound to any state of the machine")]
    Unbound,
    /// Its signed policy's key cannot be used.
    #[error("Token's policy key cannot be used")]
    PolicyKey(#[source] KeyError),
    /// Nobody signed the present state.
    #[error("No signature for the present values of {}; {}", about(subject), found(*others))]
    NotSigned {
        /// What was looked for.
        subject: Box<Subject>,
        /// How many signatures are about the same, but of other values.
        others: usize,
    },
    /// A value that the policy is about is not known.
    #[error("Values of PCRs {pcrs} of bank {bank} are not known")]
    PcrUnknown {
        /// The bank.
        bank: Bank,
        /// The PCRs.
        pcrs: PcrMask,
    },
    /// It has a pcrlock policy.
    #[error("Token's policy is systemd-pcrlock's, which is not supported yet")]
    Pcrlock,
    /// Its secret is split into two objects.
    #[error("Token's secret is split, which is not supported yet")]
    Sharded,
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
            Self::PolicyKey(_) => "token-policy-key",
            Self::NotSigned { .. } => "signature-missing",
            Self::PcrUnknown { .. } => "pcr-unknown",
            Self::Pcrlock => "token-pcrlock-unsupported",
            Self::Sharded => "token-sharded-unsupported",
            Self::Inconsistent => "token-inconsistent",
            Self::BankInactive(_) => "bank-inactive",
            Self::FenceIneffective => "fence-ineffective",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Inconsistent | Self::PolicyKey(_) => Class::Data,
            _ => Class::Refused,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Inconsistent | Self::PolicyKey(_) | Self::PcrUnknown { .. } => "",
            Self::NotSigned { .. } => {
                "boot a UKI whose .pcrsig section is signed with this key, or sign this state: systemd-measure sign"
            }
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

/// A TPM answers with eight digests (`TPML_DIGEST`, TPM 2.0 Part 2, 10.9.3); four banks have a PCR 15.
const AT_ENTRY: usize = 4;

fn about(subject: &Subject) -> String {
    let reference = subject.reference.as_ref().map(|text| format!(" with reference {text:?}"));
    format!(
        "PCRs {} of bank {} by the key {}{}",
        subject.pcrs,
        subject.bank,
        hex::encode(&subject.fingerprint),
        reference.unwrap_or_default()
    )
}

fn found(others: usize) -> String {
    match others {
        0 => "none of other values either".to_owned(),
        1 => "one of other values was found".to_owned(),
        _ => format!("{others} of other values were found"),
    }
}

#[cfg(test)]
mod tests;
