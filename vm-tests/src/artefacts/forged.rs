//! What a hostile host makes of an enrolled volume: header and data of its choice, with valid checksums.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::artefacts::enrolled::Enrolled;
use crate::artefacts::filesystem::Filesystem;
use crate::forge::Forge;

/// A forged volume.
#[derive(Debug, Clone)]
pub struct Forged {
    header: PathBuf,
    body: PathBuf,
}

impl Forged {
    /// The null cipher in the token's keyslot: whatever the TPM unseals opens it and gives a key that the
    /// attacker knows, and the data is encrypted with. (Here the builder's volume stands for the attacker's
    /// own.)
    ///
    /// # Errors
    /// When the header is none, or files cannot be written.
    pub fn null_keyslot(enrolled: &Enrolled, run: &Path) -> Result<Self> {
        let header = fs::read(enrolled.header())?;
        let keyslot = keyslot_of_the_token(&header)?;
        let forged = Forge::of(&header).null_keyslot(keyslot, &enrolled.volume.key()?);
        Self::write(run, &forged, enrolled.volume.path())
    }

    /// The null cipher in the segment: keyslots, token and digest stay the owner's, and the data is a file
    /// system of the attacker's in clear.
    ///
    /// # Errors
    /// When the header is none, or files cannot be written.
    pub fn null_segment(enrolled: &Enrolled, rogue: &Filesystem, run: &Path) -> Result<Self> {
        let header = fs::read(enrolled.header())?;
        let body = run.join("body.img");
        let mut bytes = header.clone();
        bytes.append(&mut fs::read(rogue.path())?);
        // The volume is as large as it was.
        bytes.resize(usize::try_from(enrolled.volume.path().metadata()?.len())?, 0);
        fs::write(&body, bytes)?;
        Self::write(run, &in_clear(&header), body)
    }

    /// The header.
    pub fn header(&self) -> PathBuf {
        self.header.clone()
    }

    /// What the partition holds below the header.
    pub fn body(&self) -> PathBuf {
        self.body.clone()
    }

    fn write(run: &Path, forged: &Forge, body: PathBuf) -> Result<Self> {
        let header = run.join("forged-header.img");
        fs::write(&header, forged.volume())?;
        Ok(Self { header, body })
    }
}

/// A header whose segment has the null cipher.
pub fn in_clear(header: &[u8]) -> Forge {
    Forge::of(header).set("/segments/0/encryption", &json!("cipher_null-ecb"))
}

/// The keyslot that the header's token is for.
///
/// # Errors
/// When there is no token.
pub fn keyslot_of_the_token(header: &[u8]) -> Result<u32> {
    let metadata: Value = serde_json::from_str(&Forge::of(header).primary.text())?;
    let tokens = metadata.get("tokens").and_then(Value::as_object).context("No tokens")?;
    let keyslot =
        tokens.values().next().and_then(|token| token.pointer("/keyslots/0")).and_then(Value::as_str);
    Ok(keyslot.context("The token has no keyslot")?.parse()?)
}

/// Where the keyslot of the header's token lies, in bytes.
///
/// # Errors
/// When there is no token.
pub fn keyslot_area(header: &[u8]) -> Result<Range<u64>> {
    let metadata: Value = serde_json::from_str(&Forge::of(header).primary.text())?;
    let number = |name: &str| -> Result<u64> {
        let pointer = format!("/keyslots/{}/area/{name}", keyslot_of_the_token(header)?);
        let text = metadata.pointer(&pointer).and_then(Value::as_str).context("The keyslot has no area")?;
        Ok(text.parse()?)
    };
    let (offset, size) = (number("offset")?, number("size")?);
    Ok(offset..offset + size)
}
