//! Enrol: a new random secret, sealed to the TPM under a PCR policy; its keyslot, token and binding in the header.
//!
//! Everything is made and tried on a copy of the metadata in memory; the volume itself changes in one step at the
//! end, so an interruption leaves it as it was.

use std::path::PathBuf;

use serde::Serialize;
use zeroize::Zeroizing;

use super::metadata::Metadata;
use super::target::Target;
use crate::config::{Authentic, Policy};
use crate::error::{Class, Error, Failure};
use crate::fence::Unfenced;
use crate::luks::binding::{self, Binding, VolumeKeyDigest};
use crate::luks::proof::Proof;
use crate::luks::token::{Literal, Token};
use crate::luks::{FlagSet, Snapshot, emit};
use crate::owner::SigningKey;
use crate::pcr::{Pcr, PcrValues};
use crate::policy::pcrs::PcrChoice;
use crate::policy::{Rules, State, literal};
use crate::secret::{Secret, VolumeKey};
use crate::tpm::blob::Sealed;
use crate::tpm::srk::Srk;
use crate::tpm::{PrimaryAlg, Tpm};
use crate::unseal::{Tokens, passphrase};
use crate::verify;

/// What to enrol.
pub struct Request<'a> {
    /// Device or image.
    pub volume: &'a std::path::Path,
    /// The directory that stands for `/`.
    pub root: &'a std::path::Path,
    /// Passphrase of an existing keyslot.
    pub key: &'a Secret,
    /// PCRs to seal to; 15 = zero is added.
    pub pcrs: PcrChoice,
    /// Signs the binding, so that the volume can show whose it is.
    pub sign: Option<&'a SigningKey>,
    /// LUKS flags that the header may carry.
    pub flags: &'a FlagSet,
}

/// What was enrolled.
#[derive(Debug, Serialize)]
pub struct Enrolled {
    /// Device or image.
    pub volume: PathBuf,
    /// UUID in the LUKS2 header.
    pub luks_uuid: String,
    /// The new keyslot.
    pub keyslot: u32,
    /// The new token.
    pub token: u32,
    /// PCR bank.
    pub bank: String,
    /// PCRs and values that the key is sealed to, in hexadecimal digits.
    pub pcrs: std::collections::BTreeMap<u8, String>,
    /// The owner key that signed, by its name.
    pub signer: Option<String>,
    /// The volume key's digest, as a configuration pins it.
    pub volume_key: String,
    /// Whether the TPM gave the secret back in a trial: it can only where the PCRs already have these values.
    pub unsealed_in_trial: bool,
}

/// Enrols, by way of `tpm`.
///
/// # Errors
/// Those of the volume, the TPM, and of a trial that did not give back what was put in.
pub fn enroll(request: &Request<'_>, tpm: &mut dyn Tpm) -> Result<Enrolled, Error> {
    let target = Target::open(request.volume, request.root)?;
    let (mut metadata, before) = Metadata::read(&target, request.flags)?;
    let choice = request.pcrs.clone().with_fence()?;
    if choice.mask() == crate::pcr::PcrMask::EMPTY.with(Pcr::FENCE) {
        return Err(EnrollError::NoPcr.into());
    }
    log::info!("Opening the volume with the given key");
    let key = volume_key(&before, &metadata.bytes()?, request.key)?;

    log::info!("Sealing a new secret to PCRs {} of bank {}", choice.mask(), choice.bank());
    let live = tpm
        .read_pcrs(&[(choice.bank(), choice.mask())])?
        .pop()
        .unwrap_or_else(|| PcrValues::new(choice.bank()));
    let values = choice.values(&live)?;
    let policy = literal::digest(&values);
    let secret = random_secret()?;
    let (sealed, srk) = tpm.seal(&secret, &policy)?;

    log::info!("Adding keyslot and token");
    let made = Made { secret, sealed, srk, policy, values };
    let (keyslot, number) = add(&mut metadata, &target, request, &key, &made)?;
    let after = snapshot(&metadata, &target, request.flags)?;
    try_token(&after, &metadata.bytes()?, number, &made, request.sign)?;
    let unsealed_in_trial = same_values(&made.values, &live);
    if unsealed_in_trial {
        try_tpm(&after, number, &made.secret, tpm)?;
    }
    metadata.write_back(&target)?;
    Ok(Enrolled {
        volume: request.volume.to_owned(),
        luks_uuid: after.uuid().to_string(),
        keyslot,
        token: number,
        bank: made.values.bank().to_string(),
        pcrs: made.values.iter().map(|(pcr, value)| (pcr.number(), hex(value))).collect(),
        signer: request.sign.map(|owner| owner.public().id().to_string()),
        volume_key: VolumeKeyDigest::of(&key).to_string(),
        unsealed_in_trial,
    })
}

/// A sealed secret and what it is sealed to.
struct Made {
    secret: Secret,
    sealed: Sealed,
    srk: Srk,
    policy: [u8; 32],
    values: PcrValues,
}

/// Opens whichever keyslot the key fits.
fn volume_key(snapshot: &Snapshot, bytes: &Vec<u8>, key: &Secret) -> Result<VolumeKey, Error> {
    for keyslot in snapshot.keyslots().keys() {
        let area = snapshot.read_area(bytes, *keyslot)?;
        let header = emit::canonical_header(snapshot, &area);
        if let Ok(key) = verify::open(&header, key, snapshot) {
            return Ok(key);
        }
    }
    Err(EnrollError::WrongKey.into())
}

/// Adds the keyslot, then the token that names and binds it, to the copy of the metadata.
fn add(
    metadata: &mut Metadata,
    target: &Target,
    request: &Request<'_>,
    key: &VolumeKey,
    made: &Made,
) -> Result<(u32, u32), Error> {
    let keyslot = metadata.add_keyslot(key, &passphrase(&made.secret))?;
    let message = binding::message(&snapshot(metadata, target, request.flags)?, keyslot, key)?;
    let mut proof = Proof::new(Binding::compute(&made.secret, &message)).sealed_to(&made.values);
    if let Some(owner) = request.sign {
        proof = proof.signed(owner.public().id(), owner.sign(&message)?);
    }
    let token = Literal {
        keyslot,
        sealed: &made.sealed,
        policy_digest: &made.policy,
        pcrs: made.values.mask(),
        bank: made.values.bank(),
        primary: PrimaryAlg::of_public(made.srk.public()).unwrap_or(PrimaryAlg::Ecc),
        srk: &made.srk,
        proof: Some(&proof),
    };
    let number = metadata.add_token(&token.to_json())?;
    Ok((keyslot, number))
}

/// The copy of the metadata, through the strict parser that will read it at boot.
fn snapshot(metadata: &Metadata, target: &Target, flags: &FlagSet) -> Result<Snapshot, Error> {
    Ok(Snapshot::read(&metadata.bytes()?, target.length(), target.sector_size(), flags)?)
}

/// Walks the new path as a boot will: the token is read back, its keyslot opens, its binding holds under the strict
/// defaults, and the sealed object carries the policy that was computed here.
fn try_token(
    after: &Snapshot,
    bytes: &Vec<u8>,
    number: u32,
    made: &Made,
    signer: Option<&SigningKey>,
) -> Result<(), Error> {
    let json = after.tokens().get(&number).ok_or(EnrollError::Trial("the token was not written"))?;
    let token = Token::parse(number, json)?;
    if token.policy_digest != made.policy {
        return Err(EnrollError::Trial("the token's policy is not the one that was sealed to").into());
    }
    let area = after.read_area(bytes, token.keyslot)?;
    let fenced = token.pcrs.contains(Pcr::FENCE);
    let trusted = Authentic {
        owner_keys: signer.map(|signer| signer.public().clone()).into_iter().collect(),
        ..Authentic::default()
    };
    let policy = Policy { require_authentic: signer.is_some(), ..Policy::default() };
    let rules = verify::Rules { policy: &policy, trusted: &trusted };
    verify::check(&token, &made.secret, fenced, after, &area, rules)?;
    Ok(())
}

/// Lets the TPM give the secret back, where the PCRs have the values already.
fn try_tpm(after: &Snapshot, number: u32, secret: &Secret, tpm: &mut dyn Tpm) -> Result<(), Error> {
    let rules = Rules { allow_unbound: false, require_fence: true };
    let unfenced = Unfenced::check(tpm)?;
    let only = after.tokens().iter().filter(|(token, _)| **token == number);
    let only = only.map(|(token, value)| (*token, value.clone())).collect();
    let mut tokens = Tokens::new(&only);
    match tokens.unseal(tpm, &unfenced, &rules, &mut State::at_entry(unfenced.banks())) {
        Some(unsealed) if unsealed.secret().expose() == secret.expose() => Ok(()),
        Some(_) => Err(EnrollError::Trial("the TPM gave back another secret").into()),
        None => Err(tokens.into_error().into()),
    }
}

fn same_values(sealed_to: &PcrValues, live: &PcrValues) -> bool {
    sealed_to.iter().all(|(pcr, value)| live.get(pcr) == Some(value))
}

fn random_secret() -> Result<Secret, EnrollError> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_SIZE]);
    getrandom::fill(&mut bytes).map_err(EnrollError::Random)?;
    Ok(Secret::copy_of(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why nothing was enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The key file fits no keyslot.
    #[error("The given key opens no keyslot of the volume")]
    WrongKey,
    /// Only PCR 15 would be left.
    #[error("No PCR to seal to: every operating system that boots on this TPM could unseal the key")]
    NoPcr,
    /// The kernel's random numbers.
    #[error("Drawing random bytes")]
    Random(#[source] getrandom::Error),
    /// What was put in does not come out.
    #[error("The new keyslot failed its trial: {0}")]
    Trial(&'static str),
}

impl Failure for EnrollError {
    fn slug(&self) -> &'static str {
        match self {
            Self::WrongKey => "key-wrong",
            Self::NoPcr => "pcrs-none",
            Self::Random(_) => "random-failed",
            Self::Trial(_) => "trial-failed",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::WrongKey => Class::Refused,
            Self::NoPcr => Class::Usage,
            Self::Random(_) => Class::Os,
            Self::Trial(_) => Class::Internal,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::WrongKey => "The file is taken as it is: a newline at its end belongs to the key",
            Self::NoPcr => "--tpm2-pcrs=uki is 4+7+11+12+13; --help tells more",
            Self::Random(_) => "",
            Self::Trial(_) => "Nothing was written; please report this",
        }
    }
}

/// Bytes of a sealed secret, as systemd makes them.
const SECRET_SIZE: usize = 32;
