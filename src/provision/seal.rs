//! A new secret, sealed to the TPM: PCRs chosen by the operator come in; a keyslot, its token and its proof go into the copy
//! of the metadata, and are tried there as a boot will try them.

use std::collections::BTreeMap;

use serde::Serialize;
use zeroize::Zeroizing;

use super::danger;
use super::metadata::Metadata;
use super::open;
use crate::config::{Authentic, Policy};
use crate::error::{Class, Error, Failure};
use crate::hex;
use crate::luks::Snapshot;
use crate::luks::binding::{self, Binding};
use crate::luks::proof::Proof;
use crate::luks::token::{Literal, Token};
use crate::owner::SigningKey;
use crate::pcr::{Pcr, PcrMask, PcrValues};
use crate::policy::literal;
use crate::policy::pcrs::PcrChoice;
use crate::report::Warning;
use crate::secret::{Secret, VolumeKey};
use crate::tpm::blob::Sealed;
use crate::tpm::srk::Srk;
use crate::tpm::{PrimaryAlg, Tpm};
use crate::unseal::passphrase;
use crate::verify;

/// What to seal to.
#[derive(Clone, Debug)]
pub struct Seal {
    /// PCRs by value; 15 = zero is added.
    pub pcrs: PcrChoice,
    /// Whether only the owner's keys are in the Secure Boot db, so that PCR 7 tells his systems from others.
    pub private_db: bool,
}

/// What was sealed.
#[derive(Debug, Serialize)]
pub struct SealedSlot {
    /// The new keyslot.
    pub keyslot: u32,
    /// The new token.
    pub token: u32,
    /// PCR bank.
    pub bank: String,
    /// PCRs and values that the key is sealed to, in hexadecimal digits.
    pub pcrs: BTreeMap<u8, String>,
    /// The owner key that signed, by its name.
    pub signer: Option<String>,
    /// Whether the TPM gave the secret back in a trial: it can only where the PCRs already have these values.
    pub unsealed_in_trial: bool,
}

/// A sealed secret and what it is sealed to.
pub(super) struct Made {
    secret: Secret,
    sealed: Sealed,
    srk: Srk,
    policy: [u8; 32],
    values: PcrValues,
    /// The PCRs have these values now.
    current: bool,
}

impl Made {
    /// Seals a new random secret.
    pub(super) fn new(request: &Seal, tpm: &mut dyn Tpm) -> Result<(Self, Option<Warning>), Error> {
        let choice = request.pcrs.clone().with_fence()?;
        let chosen: PcrMask = choice.mask().iter().filter(|pcr| *pcr != Pcr::FENCE).collect();
        let warning = danger::judge(chosen, request.private_db)?;
        log::info!("Sealing a new secret to PCRs {} of bank {}", choice.mask(), choice.bank());
        let live = tpm.read_pcrs(&[(choice.bank(), choice.mask())])?.pop();
        let live = live.unwrap_or_else(|| PcrValues::new(choice.bank()));
        let values = choice.values(&live)?;
        let current = values.iter().all(|(pcr, value)| live.get(pcr) == Some(value));
        let policy = literal::digest(&values);
        let secret = random_secret()?;
        let (sealed, srk) = tpm.seal(&secret, &policy)?;
        Ok((Self { secret, sealed, srk, policy, values, current }, warning))
    }

    /// Adds the keyslot.
    pub(super) fn add_keyslot(&self, metadata: &mut Metadata, key: &VolumeKey) -> Result<u32, Error> {
        Ok(metadata.add_keyslot(key, &passphrase(&self.secret))?)
    }

    /// Adds the token that names the keyslot and binds it as it is in `snapshot`.
    pub(super) fn add_token(
        &self,
        metadata: &mut Metadata,
        snapshot: &Snapshot,
        keyslot: u32,
        key: &VolumeKey,
        owner: Option<&SigningKey>,
    ) -> Result<u32, Error> {
        let message = binding::message(snapshot, keyslot, key)?;
        let proof = prove(&self.secret, &message, owner)?.sealed_to(&self.values);
        let token = Literal {
            keyslot,
            sealed: &self.sealed,
            policy_digest: &self.policy,
            pcrs: self.values.mask(),
            bank: self.values.bank(),
            primary: PrimaryAlg::of_public(self.srk.public()).unwrap_or(PrimaryAlg::Ecc),
            srk: &self.srk,
            proof: Some(&proof),
        };
        Ok(metadata.add_token(&token.to_json())?)
    }

    /// Walks the new path as a boot will: the token is read back, the sealed object carries the policy that was computed
    /// here, the keyslot opens, binding and signature hold under the strict defaults, and where the PCRs have the values
    /// already, the TPM gives the secret back.
    pub(super) fn try_token(
        &self,
        after: &Snapshot,
        bytes: &Vec<u8>,
        number: u32,
        owner: Option<&SigningKey>,
        tpm: &mut dyn Tpm,
    ) -> Result<(), Error> {
        let json = after.tokens().get(&number).ok_or(SealError::Trial("the token was not written"))?;
        let token = Token::parse(number, json)?;
        if token.policy_digest != self.policy {
            return Err(SealError::Trial("the token's policy is not the one that was sealed to").into());
        }
        try_proof(&token, &self.secret, after, bytes, owner)?;
        if self.current {
            let unsealed = open::unseal(&[(number, json.clone())].into(), tpm)?;
            if unsealed.secret().expose() != self.secret.expose() {
                return Err(SealError::Trial("the TPM gave back another secret").into());
            }
        }
        Ok(())
    }

    /// What to tell.
    pub(super) fn describe(&self, keyslot: u32, token: u32, owner: Option<&SigningKey>) -> SealedSlot {
        SealedSlot {
            keyslot,
            token,
            bank: self.values.bank().to_string(),
            pcrs: self.values.iter().map(|(pcr, value)| (pcr.number(), hex::encode(value))).collect(),
            signer: owner.map(|owner| owner.public().id().to_string()),
            unsealed_in_trial: self.current,
        }
    }
}

/// Binds `message` to the sealed secret, and signs it if there is an owner.
pub(super) fn prove(secret: &Secret, message: &[u8], owner: Option<&SigningKey>) -> Result<Proof, Error> {
    let proof = Proof::new(Binding::compute(secret, message));
    match owner {
        None => Ok(proof),
        Some(owner) => Ok(proof.signed(owner.public().id(), owner.sign(message)?)),
    }
}

/// Opens the token's keyslot and checks its proof as a boot under the strict defaults would, `owner`'s key being the only
/// one that the configuration names.
pub(super) fn try_proof(
    token: &Token,
    secret: &Secret,
    after: &Snapshot,
    bytes: &Vec<u8>,
    owner: Option<&SigningKey>,
) -> Result<(), Error> {
    let area = after.read_area(bytes, token.keyslot)?;
    let owner_keys = owner.map(|owner| owner.public().clone()).into_iter().collect();
    let trusted = Authentic { owner_keys, ..Authentic::default() };
    let fenced = token.pcrs.contains(Pcr::FENCE);
    // A token of systemd's that is being bound may lack PCR 15; a new one never does.
    let policy = Policy { require_authentic: owner.is_some(), require_fence: fenced, ..Policy::default() };
    verify::check(token, secret, fenced, after, &area, verify::Rules { policy: &policy, trusted: &trusted })?;
    Ok(())
}

fn random_secret() -> Result<Secret, SealError> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_SIZE]);
    getrandom::fill(&mut bytes).map_err(SealError::Random)?;
    Ok(Secret::copy_of(&bytes))
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The kernel's random numbers.
    #[error("Drawing random bytes")]
    Random(#[source] getrandom::Error),
    /// What was put in does not come out.
    #[error("The new keyslot failed its trial: {0}")]
    Trial(&'static str),
}

impl Failure for SealError {
    fn slug(&self) -> &'static str {
        match self {
            Self::Random(_) => "random-failed",
            Self::Trial(_) => "trial-failed",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Random(_) => Class::Os,
            Self::Trial(_) => Class::Internal,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Random(_) => "",
            Self::Trial(_) => "Nothing was written; please report this",
        }
    }
}

/// Bytes of a sealed secret, as systemd makes them.
const SECRET_SIZE: usize = 32;
