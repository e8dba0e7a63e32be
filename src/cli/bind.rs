//! `bind`: binding and owner signature for a token that systemd-cryptenroll made.

use std::path::PathBuf;

use super::common::{Common, lock_memory};
use super::given::Given;
use super::keys;
use super::options;
use super::output::{print, print_json};
use super::usage::UsageError;
use crate::base::error::Error;
use crate::provision::bind::{Request, bind};
use crate::tpm::Device;
use crate::tpm::esapi::EsapiTpm;

/// A request to bind a token.
#[derive(Debug)]
pub(super) struct Bind {
    volume: PathBuf,
    /// Otherwise the first that the TPM opens.
    token: Option<u32>,
    /// Otherwise where systemd looks for them.
    signature: Option<PathBuf>,
    /// Without it, the token is only bound.
    sign_key: Option<PathBuf>,
    tpm: Device,
}

impl Bind {
    pub(super) fn parse(given: &Given) -> Result<Self, UsageError> {
        Ok(Self {
            volume: given.volume()?,
            token: given.text(&options::TOKEN_ID, |text| text.parse().ok())?,
            signature: given.path(&options::TPM2_SIGNATURE),
            sign_key: given.path(&options::SIGN_KEY),
            tpm: given.tpm()?,
        })
    }
}

pub(super) fn run(common: &Common, asked: &Bind) -> Result<u8, Error> {
    lock_memory();
    let config = common.configuration()?;
    let owner = asked.sign_key.as_deref().map(keys::signing_key).transpose()?;
    let signatures = keys::signatures(&common.root, asked.signature.as_deref())?;
    let request = Request {
        volume: &asked.volume,
        root: &common.root,
        token: asked.token,
        signatures: &signatures,
        sign: owner.as_ref(),
        flags: &config.allow_luks_flags,
    };
    let bound = bind(&request, &mut EsapiTpm::open(&asked.tpm)?)?;
    for warning in &bound.warnings {
        log::warn!("{} [{}]", warning.message, warning.slug);
    }
    if common.json {
        return print_json(&bound);
    }
    let signed = match &bound.signer {
        Some(signer) => format!(" and signed by the owner key {signer}"),
        None => format!("; the configuration can pin its volume key, {}", bound.volume_key),
    };
    print(&format!(
        "{}: token {} now binds keyslot {}{signed}\n",
        bound.volume.display(),
        bound.token,
        bound.keyslot
    ))
}
