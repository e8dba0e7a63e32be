//! The sealed object of a token: `TPM2B_PRIVATE || TPM2B_PUBLIC [|| TPM2B_ENCRYPTED_SECRET]`, as systemd
//! writes it. The bytes are untrusted: only the TPM's own integrity check shows whether an object is genuine.

use thiserror::Error;

use crate::base::bytes;
use crate::base::bytes::{Reader, WireError};

/// A sealed object as a TPM loads it, or imports it if there is a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    private: Vec<u8>,
    public: Vec<u8>,
    seed: Option<Vec<u8>>,
    facts: SealedPublic,
}

/// The facts in a sealed object's public area (`TPMT_PUBLIC`, TPM 2.0 Part 2, 12.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedPublic {
    /// `TPMA_OBJECT` (Part 2, 8.3).
    pub attributes: u32,
    /// The policy that unseals the object; SHA-256.
    pub auth_policy: [u8; 32],
}

impl Sealed {
    /// From the contents of the three buffers, each without its length.
    ///
    /// # Errors
    /// One is too long, or the public area is not that of a sealed object.
    pub fn new(private: Vec<u8>, public: Vec<u8>, seed: Option<Vec<u8>>) -> Result<Self, BlobError> {
        for (part, limit) in [
            (&private, PRIVATE_LIMIT),
            (&public, PUBLIC_LIMIT),
            (seed.as_ref().unwrap_or(&Vec::new()), SEED_LIMIT),
        ] {
            if part.len() > limit {
                return Err(WireError::TooLong { size: part.len(), limit }.into());
            }
        }
        let facts = SealedPublic::parse(&public)?;
        if private.is_empty() {
            return Err(BlobError::EmptyPrivate);
        }
        if seed.as_ref().is_some_and(Vec::is_empty) {
            return Err(BlobError::EmptySeed);
        }
        Ok(Self { private, public, seed, facts })
    }

    /// Parses a token's `tpm2-blob` after base64 decoding.
    ///
    /// # Errors
    /// The bytes are not exactly two or three such buffers, or the public area is not that of a sealed
    /// object.
    pub fn parse(bytes: &[u8]) -> Result<Self, BlobError> {
        let mut reader = Reader::new(bytes);
        let private = reader.sized(PRIVATE_LIMIT)?.to_vec();
        let public = reader.sized(PUBLIC_LIMIT)?.to_vec();
        let seed = if reader.is_at_end() { None } else { Some(reader.sized(SEED_LIMIT)?.to_vec()) };
        reader.finish()?;
        Self::new(private, public, seed)
    }

    /// The bytes of a token's `tpm2-blob` before base64 encoding: the inverse of [`Sealed::parse`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for part in [Some(&self.private), Some(&self.public), self.seed.as_ref()].into_iter().flatten() {
            // Cannot fail: every limit that `new` checked is below what a 16-bit length can express.
            let pushed = bytes::push_sized(&mut out, part);
            debug_assert!(pushed.is_ok());
        }
        out
    }

    /// The content of `TPM2B_PRIVATE`, encrypted by the parent.
    #[must_use]
    pub fn private(&self) -> &[u8] {
        &self.private
    }

    /// The content of `TPM2B_PUBLIC`: a marshalled `TPMT_PUBLIC`.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The content of `TPM2B_ENCRYPTED_SECRET`, present if the object was made outside the TPM and has to be
    /// imported.
    #[must_use]
    pub fn seed(&self) -> Option<&[u8]> {
        self.seed.as_deref()
    }

    /// The facts in the public area.
    #[must_use]
    pub const fn facts(&self) -> &SealedPublic {
        &self.facts
    }
}

impl SealedPublic {
    /// `fixedTPM` and `fixedParent` (bits 1 and 4): made by the TPM that loads it, never imported.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        self.attributes & FIXED == FIXED
    }

    /// `noDA` (bit 10): a failure does not count towards the dictionary attack lockout.
    #[must_use]
    pub const fn is_exempt_from_lockout(&self) -> bool {
        self.attributes & NO_DA != 0
    }

    fn parse(public: &[u8]) -> Result<Self, BlobError> {
        let mut reader = Reader::new(public);
        if reader.u16()? != ALG_KEYEDHASH {
            return Err(BlobError::NotSealed("its type is not KEYEDHASH"));
        }
        if reader.u16()? != ALG_SHA256 {
            return Err(BlobError::NotSealed("its name algorithm is not SHA-256"));
        }
        let attributes = reader.u32()?;
        let auth_policy = <[u8; 32]>::try_from(reader.sized(DIGEST_LIMIT)?)
            .map_err(|_| BlobError::NotSealed("its policy is not a SHA-256 digest"))?;
        if reader.u16()? != ALG_NULL {
            return Err(BlobError::NotSealed("it has a scheme, so it is a key"));
        }
        if reader.sized(DIGEST_LIMIT)?.len() != 32 {
            return Err(BlobError::NotSealed("its unique value is not a SHA-256 digest"));
        }
        if attributes & (SIGN | DECRYPT | RESTRICTED) != 0 {
            return Err(BlobError::NotSealed("its attributes are those of a key"));
        }
        reader.finish()?;
        Ok(Self { attributes, auth_policy })
    }
}

/// Why bytes are not a sealed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlobError {
    /// The buffers are not in wire form.
    #[error("Sealed object is malformed")]
    Wire(#[from] WireError),
    /// The private part is empty.
    #[error("Sealed object has no private part")]
    EmptyPrivate,
    /// There is a third buffer, but it is empty.
    #[error("Sealed object has an empty seed")]
    EmptySeed,
    /// The public area of another kind of object.
    #[error("Object is not a sealed one: {0}")]
    NotSealed(&'static str),
}

/// Bytes; `_PRIVATE` has 1.5 KiB in the largest implementations (Part 2, 12.3.7), a sealed object of 32 bytes
/// 160.
const PRIVATE_LIMIT: usize = 2048;
/// Bytes; the public area of a sealed object with SHA-256 has 78.
const PUBLIC_LIMIT: usize = 512;
/// Bytes; RSA-4096 has 512, an ECC point of P-521 136 (Part 2, 11.4.33).
const SEED_LIMIT: usize = 1024;
/// Bytes of the longest digest, SHA-512.
const DIGEST_LIMIT: usize = 64;

// TPM_ALG_ID (TCG Algorithm Registry, table 3).
const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;

// TPMA_OBJECT (Part 2, 8.3.2).
const FIXED: u32 = 1 << 1 | 1 << 4;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64, Encoding};
    use proptest::prelude::*;

    fn public() -> Vec<u8> {
        let mut bytes = vec![0x00, 0x08, 0x00, 0x0b, 0x00, 0x00, 0x04, 0x12];
        bytes::push_sized(&mut bytes, &[0xaa; 32]).unwrap();
        bytes.extend_from_slice(&[0x00, 0x10]);
        bytes::push_sized(&mut bytes, &[0xbb; 32]).unwrap();
        bytes
    }

    fn blob(private: &[u8], public: &[u8], seed: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [Some(private), Some(public), seed].into_iter().flatten() {
            bytes::push_sized(&mut bytes, part).unwrap();
        }
        bytes
    }

    // systemd 252, swtpm 0.7.1: systemd-cryptenroll --tpm2-device=swtpm:... --tpm2-pcrs=7 FILE, member `tpm2-blob`.
    const GOLDEN: &str = "\
        AJ4AIGUfJv37Va39FJL/TAyt7OcjJPOMdOYy4D1uk/Rq2RQoABBoraTYQ/tXXHLOgGidbmRo8+n8tZ/PFVSyFNIDg7FK\
        ynRhtJbf9Rv48IL+4+IDPQ2xQDU8NtesN19iKMoqQABo9Ft06IG0bRLD3q5gb04UIu2R4LlYfWmtW0mv/CbS/V9hutQS\
        3ntNQCPd0Ewbtk9ajz/J3mCyab3pYABOAAgACwAAABIAIItWgtgbKUNdCNeSeBUGEdx+WSOy/vzOaEoJV3tAEwqLABAA\
        IOdtL10KVklQ/8ILMDkj46Cjg/9uPqekkJJilgmSKIkv";

    #[test]
    fn what_systemd_sealed_is_read_and_written() {
        let bytes = Base64::decode_vec(GOLDEN).unwrap();
        let sealed = Sealed::parse(&bytes).unwrap();
        assert_eq!((sealed.private().len(), sealed.public().len()), (158, 78));
        assert_eq!(sealed.facts().attributes, 0x12);
        // The token's `tpm2-policy-hash`.
        assert_eq!(sealed.facts().auth_policy[..4], [0x8b, 0x56, 0x82, 0xd8]);
        assert_eq!(sealed.to_bytes(), bytes);
    }

    #[test]
    fn facts_of_a_sealed_object_are_read() {
        let sealed = Sealed::parse(&blob(&[1; 158], &public(), None)).unwrap();
        assert_eq!(*sealed.facts(), SealedPublic { attributes: 0x412, auth_policy: [0xaa; 32] });
        assert!(sealed.facts().is_fixed() && sealed.facts().is_exempt_from_lockout());
        assert_eq!(sealed.seed(), None);
    }

    #[test]
    fn an_object_to_import_has_a_seed() {
        let sealed = Sealed::parse(&blob(&[1; 106], &public(), Some(&[2; 68]))).unwrap();
        assert_eq!(sealed.seed(), Some([2; 68].as_slice()));
    }

    #[test]
    fn a_key_instead_of_a_sealed_object_is_refused() {
        for (position, value) in [(1, 0x23), (3, 0x0c), (5, 0x02), (8, 0x01), (43, 0x14)] {
            let mut key = public();
            key[position] = value;
            assert!(Sealed::parse(&blob(&[1], &key, None)).is_err(), "byte {position}");
        }
    }

    #[test]
    fn truncation_at_any_byte_is_refused() {
        let whole = blob(&[1; 20], &public(), None);
        for length in 0..whole.len() {
            assert!(Sealed::parse(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn bytes_behind_the_object_are_refused() {
        let mut bytes = blob(&[1], &public(), Some(&[2]));
        bytes.push(0);
        assert_eq!(Sealed::parse(&bytes), Err(BlobError::Wire(WireError::Trailing { left: 1 })));
    }

    #[test]
    fn empty_parts_are_refused() {
        assert_eq!(Sealed::parse(&blob(&[], &public(), None)), Err(BlobError::EmptyPrivate));
        assert_eq!(Sealed::parse(&blob(&[1], &public(), Some(&[]))), Err(BlobError::EmptySeed));
    }

    proptest! {
        #[test]
        fn parse_and_emit_are_inverse(
            private in proptest::collection::vec(any::<u8>(), 1..300),
            seed in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..300)),
        ) {
            let bytes = blob(&private, &public(), seed.as_deref());
            prop_assert_eq!(Sealed::parse(&bytes).unwrap().to_bytes(), bytes);
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(sealed) = Sealed::parse(&bytes) {
                prop_assert_eq!(sealed.to_bytes(), bytes);
            }
        }
    }
}
