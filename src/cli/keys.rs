//! Reads the key and signature files that the operator names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::error::{Error, failures};
use crate::base::secret::Secret;
use crate::format::pcr_signature::Signatures;
use crate::provision::signing_key::SigningKey;

/// The owner's private key.
pub(super) fn signing_key(path: &Path) -> Result<SigningKey, Error> {
    Ok(SigningKey::from_pem(&read(path)?)?)
}

/// Signed policies: of the file that was named, or of where systemd looks for them.
pub(super) fn signatures(root: &Path, named: Option<&Path>) -> Result<Signatures, Error> {
    let (signatures, unreadable) = crate::policy::files::load(root, named)?;
    for error in unreadable {
        log::warn!("{}", crate::base::error::chain(&error));
    }
    Ok(signatures)
}

/// A public key as PEM text.
pub(super) fn public_key(path: &Path) -> Result<String, KeyFileError> {
    let text = String::from_utf8(read(path)?.expose().to_vec());
    text.map_err(|_| KeyFileError::NotText(path.to_owned()))
}

/// The whole file, as cryptsetup takes a key file.
pub(super) fn read(path: &Path) -> Result<Secret, KeyFileError> {
    let reading = |source| KeyFileError::Read { path: path.to_owned(), source };
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
        _ => Err(KeyFileError::Size(path.to_owned())),
    }
}

/// Why a key file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    /// The system refused.
    #[error("Reading the key file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// Nothing in it, or far too much.
    #[error("The key file {} is empty or larger than 64 KiB", .0.display())]
    Size(PathBuf),
    /// A file that should have been PEM.
    #[error("{} is not text", .0.display())]
    NotText(PathBuf),
}

failures! { KeyFileError:
    Self::Read { .. } | Self::Size(_) | Self::NotText(_) => "key-file", Usage, "";
}

/// Bytes; cryptsetup's own limit for key files is 8 MiB, but a passphrase is small.
const MAX_KEY: usize = 64 << 10;
