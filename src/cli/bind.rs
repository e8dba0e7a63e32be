//! `bind`: binding and owner signature for a token that systemd-cryptenroll made.

use std::path::PathBuf;

use super::{Common, UsageError, keys, print, print_json};
use crate::base::error::Error;
use crate::config::Config;
use crate::provision::bind::{Request, bind};
use crate::tpm::Device;
use crate::tpm::esapi::EsapiTpm;

/// Options of `bind`.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) volume: Option<PathBuf>,
    pub(super) token: Option<u32>,
    pub(super) signature: Option<PathBuf>,
    pub(super) sign_key: Option<PathBuf>,
    pub(super) tpm: Device,
}

pub(super) fn run(common: &Common, options: &Options) -> Result<u8, Error> {
    let volume = options.volume.as_deref().ok_or(UsageError::Missing("a DEVICE or IMAGE"))?;
    super::lock_memory();
    let config = Config::load(&common.root, common.config.as_deref())?;
    let owner = options.sign_key.as_deref().map(keys::signing_key).transpose()?;
    let signatures = keys::signatures(&common.root, options.signature.as_deref())?;
    let request = Request {
        volume,
        root: &common.root,
        token: options.token,
        signatures: &signatures,
        sign: owner.as_ref(),
        flags: &config.allow_luks_flags,
    };
    let bound = bind(&request, &mut EsapiTpm::open(&options.tpm)?)?;
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
