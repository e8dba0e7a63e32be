//! Plans the policy steps that a token requires of the TPM, or says why the TPM is not asked. Tokens and
//! signatures are untrusted. Pure.

pub mod files;
pub mod key;
pub mod mismatch;
pub mod pcr_choice;
mod refusal;

use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::format::pcr_signature::{Signatures, Subject};
use crate::format::token::systemd_tpm2::{Kind, Signed, Token};
use crate::format::tpm2::parent::Parent;
use crate::format::tpm2::step::{Authorization, PolicyStep};
use crate::format::tpm2::{policy_authorize, policy_pcr};
use crate::tpm::readings::Readings;
use key::{Exponent, PolicyKey};
pub use refusal::PolicyRefusal;

/// What the measured configuration allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// Tokens that unseal in every state of their TPM.
    pub allow_unbound: bool,
    /// Only tokens that cannot be unsealed again after the fence.
    pub require_fence: bool,
}

/// What is known about the machine when a token is judged.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The TPM's active banks.
    pub active: Vec<Bank>,
    /// PCR values; a plan requires at least those that the token [`needs`].
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
    /// The parent key of the object.
    pub parent: Parent,
    /// The policy's steps, in order.
    pub steps: Vec<PolicyStep>,
    /// Whether the policy binds PCR 15 by value. PCR 15 is zero when we unseal, so the policy then requires
    /// zero.
    pub fenced: bool,
}

impl Plan {
    /// The digest that a TPM with these PCR values would compute; `None` if it would refuse, or if a value is
    /// unknown.
    #[must_use]
    pub fn digest(&self, readings: &Readings) -> Option<[u8; 32]> {
        self.steps.iter().try_fold(policy_pcr::EMPTY, |digest, step| match step {
            PolicyStep::Pcr(bank, mask) => Some(policy_pcr::extend(digest, &readings.get(*bank, *mask)?)),
            PolicyStep::Authorize(authorization) => policy_authorize::extend(digest, authorization),
        })
    }
}

/// The PCRs whose values a plan for `token` requires: those of a signed policy, and those bound by value
/// beside it.
#[must_use]
pub fn needs(token: &Token, active: &[Bank]) -> Option<(Bank, PcrMask)> {
    match (token.kind(), &token.signed) {
        (Kind::Signed, Some(signed)) => {
            Some((bank_of(token, active), signed.pcrs.iter().chain(token.pcrs.iter()).collect()))
        }
        _ => None,
    }
}

/// All PCRs that the policy of `token` binds.
#[must_use]
pub fn concerns(token: &Token, active: &[Bank]) -> (Bank, PcrMask) {
    needs(token, active).unwrap_or_else(|| (bank_of(token, active), token.pcrs))
}

/// What to read together with PCR 15 at entry: the PCRs that plans will need, then others, as many as fit
/// into one answer of a TPM that returns PCR 15 in four banks.
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
/// The rules forbid the token, we do not support its kind, it contradicts itself, or there is no signature
/// for the present PCR values.
pub fn plan(token: &Token, rules: &TokenRules, state: &State) -> Result<Plan, PolicyRefusal> {
    let kind = token.kind();
    match kind {
        Kind::Pin => return Err(PolicyRefusal::Pin),
        Kind::Pcrlock => return Err(PolicyRefusal::Pcrlock),
        Kind::Sharded => return Err(PolicyRefusal::Sharded),
        Kind::Unbound if !rules.allow_unbound => return Err(PolicyRefusal::Unbound),
        Kind::Unbound | Kind::Literal | Kind::Signed => {}
    }
    if token.policy_digest != token.sealed.facts().auth_policy
        || (token.policy_digest == policy_pcr::EMPTY) != (kind == Kind::Unbound)
    {
        return Err(PolicyRefusal::Inconsistent);
    }
    let bank = bank_of(token, &state.active);
    if kind != Kind::Unbound && !state.active.contains(&bank) {
        return Err(PolicyRefusal::BankInactive(bank));
    }
    let fenced = token.pcrs.contains(Pcr::FENCE);
    if rules.require_fence && !fenced {
        return Err(PolicyRefusal::FenceIneffective);
    }
    let mut steps = match (kind, &token.signed) {
        (Kind::Signed, Some(signed)) => signed_steps(token, signed, bank, state)?,
        _ => Vec::new(),
    };
    if !token.pcrs.is_empty() {
        steps.push(PolicyStep::Pcr(bank, token.pcrs));
    }
    let parent = match &token.srk {
        Some(srk) => Parent::Persistent(srk.clone()),
        None => Parent::Legacy(token.primary),
    };
    Ok(Plan { parent, steps, fenced })
}

/// The policy digests that `token` may have if `values` are those of the PCRs that it names by value. There
/// are two with a signed policy, whose key can be encoded in two ways.
fn digests(token: &Token, key: Option<&PolicyKey>, values: &PcrValues) -> Vec<(Exponent, [u8; 32])> {
    let reference =
        policy_authorize::reference(token.signed.as_ref().and_then(|signed| signed.reference.as_deref()));
    let before = |exponent| {
        key.map_or(policy_pcr::EMPTY, |key| policy_authorize::digest(&key.name(exponent), &reference))
    };
    let digest = |exponent| match values.mask().is_empty() {
        true => before(exponent),
        false => policy_pcr::extend(before(exponent), values),
    };
    [Exponent::Explicit, Exponent::Default].map(|exponent| (exponent, digest(exponent))).to_vec()
}

/// `TPM2_PolicyPCR` over the present PCRs, then the approval of the result.
fn signed_steps(
    token: &Token,
    signed: &Signed,
    bank: Bank,
    state: &State,
) -> Result<Vec<PolicyStep>, PolicyRefusal> {
    let key = PolicyKey::from_pem(&signed.key).map_err(PolicyRefusal::PolicyKey)?;
    let values = |mask| state.readings.get(bank, mask).ok_or(PolicyRefusal::PcrUnknown { bank, pcrs: mask });
    let possible = digests(token, Some(&key), &values(token.pcrs)?);
    let exponent = possible.iter().find(|(_, digest)| *digest == token.policy_digest);
    let exponent = match exponent {
        Some((exponent, _)) => *exponent,
        // Without PCRs by value, only the key and the reference determine the digest.
        None if token.pcrs.is_empty() => return Err(PolicyRefusal::Inconsistent),
        // A PCR differs; the TPM will say so.
        None => Exponent::Explicit,
    };
    let subject = Subject {
        bank,
        pcrs: signed.pcrs,
        fingerprint: *key.fingerprint(),
        reference: signed.reference.clone(),
    };
    let approved = policy_pcr::digest(&values(signed.pcrs)?);
    let Some(approval) = state.signatures.find(&subject, &approved) else {
        let others = state.signatures.about(&subject).count();
        return Err(PolicyRefusal::NotSigned { subject: Box::new(subject), others });
    };
    let authorization = Authorization {
        key: key.public(exponent),
        name: key.name(exponent),
        approved,
        reference: policy_authorize::reference(signed.reference.as_deref()),
        signature: approval.signature.clone(),
    };
    Ok(vec![PolicyStep::Pcr(bank, signed.pcrs), PolicyStep::Authorize(Box::new(authorization))])
}

/// The bank of a policy. A token without one is from systemd 248 or 249, which used SHA-256, or else SHA-1.
fn bank_of(token: &Token, active: &[Bank]) -> Bank {
    match token.bank {
        Some(bank) => bank,
        None if active.contains(&Bank::Sha256) => Bank::Sha256,
        None => Bank::Sha1,
    }
}

/// A TPM returns at most eight digests (`TPML_DIGEST`, TPM 2.0 Part 2, 10.9.3), and PCR 15 takes one in each
/// of four banks.
const AT_ENTRY: usize = 4;

#[cfg(test)]
mod tests;
