//! `enroll`: seal a new key for a volume to the TPM.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Common, UsageError, print, print_json};
use crate::config::Config;
use crate::error::Error;
use crate::owner::SigningKey;
use crate::policy::pcrs::PcrChoice;
use crate::provision::enroll::{Enrolled, Request, enroll};
use crate::secret::Secret;
use crate::tpm::Device;
use crate::tpm::esapi::EsapiTpm;

/// Options of `enroll`.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) volume: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) sign_key: Option<PathBuf>,
    pub(super) pcrs: Option<PcrChoice>,
    pub(super) tpm: Device,
}

pub(super) fn run(common: &Common, options: &Options) -> Result<u8, Error> {
    // The parser has seen to it that all three are there.
    let (Some(volume), Some(key_file), Some(pcrs)) = (&options.volume, &options.key_file, &options.pcrs)
    else {
        return Err(UsageError::Missing("a volume, a key file and PCRs").into());
    };
    if let Err(error) = crate::sys::memory::lock() {
        log::warn!("{}", crate::error::chain(&error));
    }
    let config = Config::load(&common.root, common.config.as_deref())?;
    let key = read_key(key_file)?;
    let owner = options.sign_key.as_deref().map(signing_key).transpose()?;
    let request = Request {
        volume,
        root: &common.root,
        key: &key,
        pcrs: pcrs.clone(),
        sign: owner.as_ref(),
        flags: &config.allow_luks_flags,
    };
    let mut tpm = EsapiTpm::open(&options.tpm)?;
    let enrolled = enroll(&request, &mut tpm)?;
    if common.json { print_json(&enrolled) } else { print(&text(&enrolled)) }
}

/// The owner's private key.
fn signing_key(path: &Path) -> Result<SigningKey, Error> {
    Ok(SigningKey::from_pem(&read_key(path)?)?)
}

/// The whole file, as cryptsetup takes a key file.
fn read_key(path: &Path) -> Result<Secret, UsageError> {
    let reading = |source| UsageError::KeyFile { path: path.to_owned(), source };
    let mut bytes = zeroize::Zeroizing::new(vec![0; MAX_KEY]);
    let mut file = File::open(path).map_err(reading)?;
    let mut length = 0;
    // Into one buffer of fixed size: a growing one would leave copies behind.
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(reading)? {
            0 => break,
            more => length = length.saturating_add(more),
        }
    }
    match bytes.get(..length) {
        Some(key) if length > 0 && length < MAX_KEY => Ok(Secret::copy_of(key)),
        _ => Err(UsageError::KeyFileSize(path.to_owned())),
    }
}

fn text(enrolled: &Enrolled) -> String {
    let mut out = format!(
        "{}: keyslot {} and token {} opened by the TPM when these PCRs of bank {} hold:\n",
        enrolled.volume.display(),
        enrolled.keyslot,
        enrolled.token,
        enrolled.bank
    );
    for (pcr, value) in &enrolled.pcrs {
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "  {pcr:>2} = {value}");
    }
    // Writing to a String cannot fail.
    let _infallible = match &enrolled.signer {
        Some(signer) => writeln!(out, "Signed by the owner key {signer}."),
        None => writeln!(
            out,
            "Not signed: it opens only where the configuration pins this volume's key, {}.",
            enrolled.volume_key
        ),
    };
    out.push_str(if enrolled.unsealed_in_trial {
        "The TPM gave the secret back in a trial.\n"
    } else {
        "These are not the TPM's values now, so a boot will be the first to unseal it.\n"
    });
    out
}

/// Bytes; cryptsetup's own limit for key files is 8 MiB, but a passphrase is small.
const MAX_KEY: usize = 64 << 10;
