//! Enrols a new secret sealed to the TPM: adds a keyslot, a token and a proof to the copy of the metadata,
//! and tries them as a boot will.

use std::collections::BTreeMap;

use serde::Serialize;
use zeroize::Zeroizing;

use super::danger;
use super::metadata::Metadata;
use super::open;
use super::signing_key::SigningKey;
use crate::base::error::{Error, failures};
use crate::base::hex;
use crate::base::pcr::{Pcr, PcrMask, PcrValues};
use crate::base::secret::{Secret, VolumeKey};
use crate::base::warning::Warning;
use crate::format::luks::Snapshot;
use crate::format::luks::binding;
use crate::format::luks::binding::Binding;
use crate::format::pcr_signature::Signatures;
use crate::format::token::claims::Claims;
use crate::format::token::passphrase::passphrase;
use crate::format::token::systemd_tpm2::{Literal, Signed, Token, with_signed};
use crate::format::tpm2::blob::Sealed;
use crate::format::tpm2::srk::Srk;
use crate::format::tpm2::template::PrimaryAlg;
use crate::format::tpm2::{policy_authorize, policy_pcr};
use crate::policy::key::{Exponent, KeyError, PolicyKey};
use crate::policy::pcr_choice::PcrChoice;
use crate::prove;
use crate::prove::settings::{Authentic, Policy, ProofRules};
use crate::tpm::Tpm;

/// What to seal to.
#[derive(Clone, Debug)]
pub struct Seal {
    /// PCRs by value; 15 = zero is added.
    pub pcrs: PcrChoice,
    /// PCRs by the signatures of a key.
    pub signed: Option<SignedPolicy>,
    /// A persistent handle of another parent key than the storage root key.
    pub parent: Option<u32>,
    /// Whether the Secure Boot db holds only the owner's keys, so that PCR 7 identifies the owner's systems.
    pub private_db: bool,
}

/// A signed policy: any policy that its key approves for these PCRs.
#[derive(Clone, Debug)]
pub struct SignedPolicy {
    key: PolicyKey,
    token: Signed,
    /// Signatures for a trial.
    signatures: Signatures,
}

impl SignedPolicy {
    /// The policy of the key in `pem` over `pcrs`, which must not be empty.
    ///
    /// # Errors
    /// `policy-key` if a TPM cannot verify with the key; `pcrs-none`.
    pub fn new(pem: &str, pcrs: PcrMask, signatures: Signatures) -> Result<Self, Error> {
        if pcrs.is_empty() {
            return Err(danger::Danger::None.into());
        }
        let key = PolicyKey::from_pem(pem).map_err(SealError::PolicyKey)?;
        Ok(Self { key, token: Signed { key: pem.to_owned(), pcrs, reference: None }, signatures })
    }
}

/// The key that was sealed.
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
    /// PCRs whose values the policy key signs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signed_pcrs: Vec<u8>,
    /// The owner key that signed, by its name.
    pub signer: Option<String>,
    /// Whether the TPM released the secret in a trial, which needs PCRs that already have these values.
    pub unsealed_in_trial: bool,
}

/// A sealed secret, and what it is sealed to.
pub(super) struct NewSeal {
    secret: Secret,
    sealed: Sealed,
    srk: Srk,
    policy: [u8; 32],
    values: PcrValues,
    signed: Option<SignedPolicy>,
    /// Whether the PCRs have these values now.
    current: bool,
}

impl NewSeal {
    /// Seals a new random secret.
    pub(super) fn new(request: &Seal, tpm: &mut dyn Tpm) -> Result<(Self, Option<Warning>), Error> {
        let choice = request.pcrs.clone().with_fence()?;
        let by_signature = request.signed.as_ref().map_or(PcrMask::EMPTY, |signed| signed.token.pcrs);
        let chosen =
            choice.mask().iter().chain(by_signature.iter()).filter(|pcr| *pcr != Pcr::FENCE).collect();
        let warning = danger::judge(chosen, request.private_db)?;
        log::info!("Sealing a new secret to PCRs {} of bank {}", choice.mask(), choice.bank());
        let live = tpm.read_pcrs(&[(choice.bank(), choice.mask())])?.pop();
        let live = live.unwrap_or_else(|| PcrValues::new(choice.bank()));
        let values = choice.values(&live)?;
        let current = values.iter().all(|(pcr, value)| live.get(pcr) == Some(value));
        // systemd's order: the signed policy, then the values.
        let signed = request.signed.clone();
        let before = signed.as_ref().map_or(policy_pcr::EMPTY, |signed| {
            policy_authorize::digest(&signed.key.name(Exponent::Explicit), &policy_authorize::reference(None))
        });
        let policy = policy_pcr::extend(before, &values);
        let secret = random_secret()?;
        let (sealed, srk) = tpm.seal(&secret, &policy, request.parent)?;
        Ok((Self { secret, sealed, srk, policy, values, signed, current }, warning))
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
        let token = match &self.signed {
            Some(signed) => with_signed(token.to_json(), &signed.token),
            None => token.to_json(),
        };
        Ok(metadata.add_token(&token)?)
    }

    /// Tries the new key as a boot will: reads the token back, and checks that the sealed object has the
    /// policy computed here, that the keyslot opens, and that binding and signature hold under the strict
    /// defaults. If the PCRs already have the values (and there is a signature for them), the TPM must
    /// release the secret too; then the result is `true`.
    pub(super) fn try_token(
        &self,
        after: &Snapshot,
        bytes: &Vec<u8>,
        number: u32,
        owner: Option<&SigningKey>,
        tpm: &mut dyn Tpm,
    ) -> Result<bool, Error> {
        let json = after.tokens().get(&number).ok_or(SealError::Trial("the token was not written"))?;
        let token = Token::parse(number, json)?;
        if token.policy_digest != self.policy {
            return Err(SealError::Trial("the token's policy is not the one that was sealed to").into());
        }
        try_proof(&token, &self.secret, after, bytes, owner)?;
        if !self.current {
            return Ok(false);
        }
        let signatures = self.signed.as_ref().map(|signed| signed.signatures.clone()).unwrap_or_default();
        match open::unseal(&[(number, json.clone())].into(), after, tpm, signatures) {
            Ok(unsealed) if unsealed.secret().expose() == self.secret.expose() => Ok(true),
            Ok(_) => Err(SealError::Trial("the TPM gave back another secret").into()),
            // There is no signature for the present state; the first boot with one will be the first to
            // unseal.
            Err(error) if self.signed.is_some() && error.slug() == NOT_SIGNED => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The result to report.
    pub(super) fn describe(
        &self,
        (keyslot, token): (u32, u32),
        owner: Option<&SigningKey>,
        unsealed_in_trial: bool,
    ) -> SealedSlot {
        let signed = self.signed.as_ref().map(|signed| signed.token.pcrs.iter().map(Pcr::number).collect());
        SealedSlot {
            keyslot,
            token,
            bank: self.values.bank().to_string(),
            pcrs: self.values.iter().map(|(pcr, value)| (pcr.number(), hex::encode(value))).collect(),
            signer: owner.map(|owner| owner.public().id().to_string()),
            signed_pcrs: signed.unwrap_or_default(),
            unsealed_in_trial,
        }
    }
}

/// Binds `message` to the sealed secret, and signs it if there is an owner.
pub(super) fn prove(secret: &Secret, message: &[u8], owner: Option<&SigningKey>) -> Result<Claims, Error> {
    let proof = Claims::new(Binding::compute(secret, message));
    match owner {
        None => Ok(proof),
        Some(owner) => Ok(proof.signed(owner.public().id(), owner.sign(message)?)),
    }
}

/// Opens the token's keyslot and checks its proof as a boot under the strict defaults would, if its
/// configuration names only the key of `owner`.
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
    // A token of systemd's may lack PCR 15 when it is bound; a new one never does.
    let policy = Policy { require_authentic: owner.is_some(), require_fence: fenced, ..Policy::default() };
    let opening = prove::Opening::by_tpm(token, secret, fenced);
    prove::check(&opening, after, &area, ProofRules { policy: &policy, trusted: &trusted })?;
    Ok(())
}

/// A random secret, as systemd generates them.
pub(super) fn random_secret() -> Result<Secret, SealError> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_SIZE]);
    getrandom::fill(&mut bytes).map_err(SealError::Random)?;
    Ok(Secret::copy_of(&bytes))
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The kernel returned no random numbers.
    #[error("Drawing random bytes")]
    Random(#[source] getrandom::Error),
    /// A key that a TPM cannot verify with.
    #[error("Reading the policy's public key")]
    PolicyKey(#[source] KeyError),
    /// A trial did not return what was put in.
    #[error("The new keyslot failed its trial: {0}")]
    Trial(&'static str),
}

failures! { SealError:
    Self::Random(_) => "random-failed", Os, "";
    Self::PolicyKey(_) => "policy-key", Usage, "An RSA public key in PEM, as systemd-measure takes it";
    Self::Trial(_) => "trial-failed", Internal, "Nothing was written; please report this";
}

/// The slug for a signed policy without a signature for the present state.
const NOT_SIGNED: &str = "signature-missing";
/// Bytes of a sealed secret, as in systemd.
const SECRET_SIZE: usize = 32;
