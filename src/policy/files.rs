//! Loads signed PCR policies from the files that systemd's boot stub and tools use, or from a named file.
//!
//! The files are untrusted: the TPM checks each signature against the key that a sealed object names. A host
//! that removes a file prevents the unlock, which it can always do.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::base::error::failures;
use crate::format::pcr_signature::{SIZE_LIMIT, SignatureError, Signatures};

/// The signatures in `named`, or else in all files at their known places below `root`; also why some of those
/// files were not usable.
///
/// # Errors
/// `signature-file-unreadable` or `signature-file-malformed`, for a named file only.
pub fn load(root: &Path, named: Option<&Path>) -> Result<(Signatures, Vec<FileError>), FileError> {
    if let Some(path) = named {
        return Ok((read(path)?, Vec::new()));
    }
    let (mut signatures, mut unusable) = (Signatures::default(), Vec::new());
    for path in PLACES.iter().map(|place| root.join(place).join(NAME)) {
        match read(&path) {
            Ok(more) => signatures.append(more),
            Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unusable.push(error),
        }
    }
    Ok((signatures, unusable))
}

/// Why a signature file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be read.
    #[error("Reading the signature file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file is malformed.
    #[error("Parsing the signature file {}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: SignatureError,
    },
}

failures! { FileError:
    Self::Read { .. } => "signature-file-unreadable", Unavailable, "";
    Self::Parse { source, .. } => from source;
}

fn read(path: &Path) -> Result<Signatures, FileError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(SIZE_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Signatures::parse(&bytes).map_err(|source| FileError::Parse { path: path.to_owned(), source })
}

/// systemd-stub unpacks the UKI's `.pcrsig` into `/.extra`; the others are systemd's `CONF_PATHS`
/// (`tpm2_load_pcr_signature`).
const PLACES: [&str; 5] =
    [".extra", "etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];
const NAME: &str = "tpm2-pcr-signature.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;

    #[test]
    fn a_damaged_file_does_not_hide_the_others() {
        let root = tempfile::tempdir().unwrap();
        for (place, text) in [(".extra", "{"), ("run/systemd", ENTRY), ("usr/lib/systemd", ENTRY)] {
            std::fs::create_dir_all(root.path().join(place)).unwrap();
            std::fs::write(root.path().join(place).join(NAME), text).unwrap();
        }
        let (signatures, unusable) = load(root.path(), None).unwrap();
        let mut twice = Signatures::parse(ENTRY.as_bytes()).unwrap();
        twice.append(twice.clone());
        assert_eq!(signatures, twice);
        assert_eq!(unusable.iter().map(Failure::slug).collect::<Vec<_>>(), ["signature-file-malformed"]);
    }

    #[test]
    fn a_named_file_has_to_be_there_and_sound() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("signatures");
        assert_eq!(load(root.path(), Some(&path)).unwrap_err().slug(), "signature-file-unreadable");
        std::fs::write(&path, "[]").unwrap();
        assert_eq!(load(root.path(), Some(&path)).unwrap_err().slug(), "signature-file-malformed");
        assert_eq!(load(root.path(), None).unwrap().0, Signatures::default());
    }

    const ENTRY: &str = r#"{"sha256": [{"pcrs": [11], "sig": "WlpaWg==",
        "pkfp": "58bc055ec97b25afb09a8d185ef9d1d0f9910018f1c93f476104a1e885ee88ac",
        "pol": "4ff71af61068af0691ff4fb19a58dc695265f97b286d517fea5b79d4c2894e03"}]}"#;
}
