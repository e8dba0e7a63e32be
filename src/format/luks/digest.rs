//! Parses a digest, by which a volume key is recognised.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::cipher::Hash;
use super::error::{HeaderError, HeaderRefusal};
use super::kdf;
use super::kdf::Salt;
use super::members::Members;

/// The PBKDF2 digest of a volume key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// PBKDF2's hash.
    pub hash: Hash,
    /// PBKDF2's iterations.
    pub iterations: u32,
    /// PBKDF2's salt.
    pub salt: Salt,
    /// PBKDF2's output, as long as the hash's.
    pub value: Vec<u8>,
}

/// What a digest covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coverage {
    /// Keyslots that hold the key.
    pub(super) keyslots: BTreeSet<u32>,
    /// Segments that are encrypted with it.
    pub(super) segments: BTreeSet<u32>,
}

impl Digest {
    /// Parses the digest whose [`Coverage`] shows that it is the volume key's. We have no use for others.
    pub(super) fn parse(path: &str, value: &Value) -> Result<Self, HeaderError> {
        let mut members = Members::of(path, value)?;
        if members.text("type")? != "pbkdf2" {
            return Err(HeaderRefusal::Digest.at(members.at("type")));
        }
        let hash = kdf::hash(&mut members)?;
        let iterations = kdf::iterations(&mut members)?;
        let salt = kdf::salt(&mut members)?;
        let value = members.base64("digest")?;
        if value.len() != hash.size() {
            return Err(HeaderRefusal::Digest.at(members.at("digest")));
        }
        Coverage::take(&mut members)?;
        members.finish()?;
        Ok(Self { hash, iterations, salt, value })
    }

    /// The digest in the header's form, covering keyslot 0 and segment 0.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "type": "pbkdf2",
            "keyslots": ["0"],
            "segments": ["0"],
            "hash": self.hash.name(),
            "iterations": self.iterations,
            "salt": Base64::encode_string(&self.salt),
            "digest": Base64::encode_string(&self.value),
        })
    }
}

impl Coverage {
    pub(super) fn parse(path: &str, value: &Value) -> Result<Self, HeaderError> {
        Self::take(&mut Members::of(path, value)?)
    }

    fn take(members: &mut Members<'_>) -> Result<Self, HeaderError> {
        Ok(Self { keyslots: members.ids("keyslots")?, segments: members.ids("segments")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;

    #[test]
    fn parse_and_emit_are_inverse() {
        let digest = Digest { hash: Hash::Sha512, iterations: 1000, salt: [1; 32], value: vec![2; 64] };
        assert_eq!(Digest::parse("d", &digest.to_json()).unwrap(), digest);
        let coverage = Coverage::parse("d", &digest.to_json()).unwrap();
        assert_eq!((coverage.keyslots, coverage.segments), (BTreeSet::from([0]), BTreeSet::from([0])));
    }

    #[test]
    fn a_shortened_digest_is_refused() {
        for length in [0, 1, 20, 31, 33] {
            let digest =
                Digest { hash: Hash::Sha256, iterations: 1000, salt: [1; 32], value: vec![2; length] };
            assert_eq!(Digest::parse("d", &digest.to_json()).unwrap_err().slug(), "luks-digest", "{length}");
        }
    }
}
