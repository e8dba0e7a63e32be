//! Binds an existing token of systemd's: adds its binding and the owner's signature, so that a volume need
//! not be enrolled again. This needs the sealed secret, so the TPM must open the token now. Writes the header
//! once.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::metadata::Metadata;
use super::open;
use super::seal::{prove, try_proof};
use super::signing_key::SigningKey;
use super::target::Target;
use crate::base::error::{Error, failures};
use crate::base::pcr::Pcr;
use crate::base::warning::Warning;
use crate::format::luks::binding;
use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::luks::{FlagSet, Snapshot};
use crate::format::pcr_signature::Signatures;
use crate::format::token::claims::with_proof;
use crate::format::token::systemd_tpm2::Token;
use crate::tpm::Tpm;

/// A request to bind a token.
pub struct Request<'a> {
    /// Device or image.
    pub volume: &'a Path,
    /// The directory that stands for `/`.
    pub root: &'a Path,
    /// The token; `None` for the first that the TPM opens.
    pub token: Option<u32>,
    /// Signatures for a token whose policy is signed.
    pub signatures: &'a Signatures,
    /// Signs the binding.
    pub sign: Option<&'a SigningKey>,
    /// LUKS flags that the header may carry.
    pub flags: &'a FlagSet,
}

/// The result.
#[derive(Debug, Serialize)]
pub struct Bound {
    /// Device or image.
    pub volume: PathBuf,
    /// UUID in the LUKS2 header.
    pub luks_uuid: String,
    /// The token's number.
    pub token: u32,
    /// Its keyslot.
    pub keyslot: u32,
    /// The owner key that signed, by its name.
    pub signer: Option<String>,
    /// The volume key's digest, as a configuration pins it.
    pub volume_key: String,
    /// What the token still lacks.
    pub warnings: Vec<Warning>,
}

/// Binds a token, using `tpm`.
///
/// # Errors
/// Those of the volume and the TPM, and `bind-no-token` if the named token does not exist.
pub fn bind(request: &Request<'_>, tpm: &mut dyn Tpm) -> Result<Bound, Error> {
    let target = Target::open(request.volume, request.root)?;
    let (mut metadata, before) = Metadata::read(&target, request.flags)?;
    let mut tokens = before.tokens().clone();
    if let Some(number) = request.token {
        tokens.retain(|token, _| *token == number);
        if tokens.is_empty() {
            return Err(BindError::NoToken(number).into());
        }
    }
    log::info!("Unsealing the token's secret");
    let unsealed = open::unseal(&tokens, &before, tpm, request.signatures.clone())?;
    let opened = open::by_token(&before, &metadata.bytes()?, &unsealed)?;
    let token = unsealed.token();

    let message = binding::message(&before, token.keyslot, &opened.key)?;
    let mut proof = prove(unsealed.secret(), &message, request.sign)?;
    // The token has just been unsealed, so the PCRs have the values that it is sealed to.
    let bank = token.bank.filter(|_| !token.pcrs.is_empty());
    if let Some(values) =
        bank.map(|bank| tpm.read_pcrs(&[(bank, token.pcrs)])).transpose()?.and_then(|mut read| read.pop())
    {
        proof = proof.sealed_to(&values);
    }
    let json = before.tokens().get(&token.id).cloned().unwrap_or_default();
    metadata.replace_token(token.id, &with_proof(json, &proof))?;

    let after = metadata.snapshot(&target, request.flags)?;
    let written = written(&after, token.id)?;
    try_proof(&written, unsealed.secret(), &after, &metadata.bytes()?, request.sign)?;
    metadata.write_back(&target)?;
    Ok(Bound {
        volume: request.volume.to_owned(),
        luks_uuid: after.uuid().to_string(),
        token: token.id,
        keyslot: token.keyslot,
        signer: request.sign.map(|owner| owner.public().id().to_string()),
        volume_key: VolumeKeyDigest::of(&opened.key).to_string(),
        warnings: lacks(&written),
    })
}

/// The token as a boot will read it.
fn written(after: &Snapshot, number: u32) -> Result<Token, Error> {
    let json = after.tokens().get(&number).ok_or(BindError::NoToken(number))?;
    Ok(Token::parse(number, json)?)
}

/// Warns of what a binding cannot fix: it cannot add a PCR to a policy.
fn lacks(token: &Token) -> Vec<Warning> {
    let warning = || {
        Warning::new(
            "fence-ineffective",
            "The token's policy lacks PCR 15: its volume opens only where policy.require_fence is false; enrol anew to add it",
        )
    };
    if token.pcrs.contains(Pcr::FENCE) { Vec::new() } else { vec![warning()] }
}

/// Why nothing was bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The token that the operator named does not exist.
    #[error("The volume has no token {0}")]
    NoToken(u32),
}

failures! { BindError:
    Self::NoToken(_) => "bind-no-token", Usage, "cvm-unlock inspect lists the tokens";
}
