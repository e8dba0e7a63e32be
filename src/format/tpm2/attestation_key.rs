//! Converts the attestation key's public area into the encodings that key brokers expect.
//!
//! It is a primary key of a fixed template: a TPM derives the same key at every boot, and nothing is stored.

use der::asn1::{AnyRef, BitStringRef, UintRef};
use der::pem::LineEnding;
use der::{Decode, Encode, EncodePem};
use pkcs1::RsaPublicKeyRef;
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::template;
use crate::base::bytes::{Reader, WireError};

/// An RSA key of 2048 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    /// `RSAPublicKey` in DER.
    pkcs1: Vec<u8>,
}

impl AttestationKey {
    /// From a marshalled `TPMT_PUBLIC`; `None` if it was not made from the template.
    #[must_use]
    pub fn from_public(public: &[u8]) -> Option<Self> {
        let template = template::attestation_key();
        let fixed = template.len().checked_sub(UNIQUE)?;
        let rest = public.strip_prefix(template.get(..fixed)?)?;
        let modulus = || -> Result<_, WireError> {
            let mut reader = Reader::new(rest);
            let modulus = reader.sized(MODULUS)?;
            reader.finish()?;
            Ok(modulus)
        };
        Self::of(modulus().ok()?)
    }

    /// From a `SubjectPublicKeyInfo` in DER; `None` if it is not of such a key.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
        let key = RsaPublicKeyRef::try_from(info.subject_public_key.as_bytes()?).ok()?;
        let parsed = Self::of(key.modulus.as_bytes())?;
        (info.algorithm.oid == RSA && parsed.spki() == der).then_some(parsed)
    }

    /// `RSAPublicKey` (RFC 8017, A.1.1) in DER.
    #[must_use]
    pub fn pkcs1(&self) -> &[u8] {
        &self.pkcs1
    }

    /// `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        // A key that was parsed can be encoded.
        self.info().and_then(|info| info.to_der()).unwrap_or_default()
    }

    /// PEM with the label `PUBLIC KEY`.
    #[must_use]
    pub fn pem(&self) -> String {
        self.info().and_then(|info| info.to_pem(LineEnding::LF)).unwrap_or_default()
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`, which names the key in lists.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.spki()).into()
    }

    fn of(modulus: &[u8]) -> Option<Self> {
        // A modulus of 2048 bits has its highest bit set.
        if modulus.len() != MODULUS || modulus.first().is_none_or(|byte| byte & 0x80 == 0) {
            return None;
        }
        let key = RsaPublicKeyRef {
            modulus: UintRef::new(modulus).ok()?,
            public_exponent: UintRef::new(&EXPONENT).ok()?,
        };
        Some(Self { pkcs1: key.to_der().ok()? })
    }

    fn info(&self) -> der::Result<SubjectPublicKeyInfoRef<'_>> {
        let algorithm = AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) };
        Ok(SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(&self.pkcs1)? })
    }
}

/// `rsaEncryption` (RFC 8017, A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// 65537, which 0 in the template stands for (TPM 2.0 Part 2, 12.2.3.5).
const EXPONENT: [u8; 3] = [1, 0, 1];
/// Bytes.
const MODULUS: usize = 256;
/// Bytes of the template's empty `unique`.
const UNIQUE: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn public(modulus: &[u8]) -> Vec<u8> {
        let mut public = template::attestation_key();
        public.truncate(public.len() - UNIQUE);
        crate::base::bytes::push_sized(&mut public, modulus).unwrap();
        public
    }

    #[test]
    fn only_a_key_of_the_template_is_taken() {
        let good = public(&[0xa5; 256]);
        let key = AttestationKey::from_public(&good).unwrap();
        assert_eq!(AttestationKey::from_spki(&key.spki()), Some(key.clone()));
        assert!(key.pem().starts_with("-----BEGIN PUBLIC KEY-----\n"));
        // Not restricted, so it would sign anything.
        let mut unrestricted = good.clone();
        unrestricted[5] ^= 1;
        assert_eq!(AttestationKey::from_public(&unrestricted), None);
        for modulus in [&[0xa5; 255][..], &[0xa5; 257], &[0x25; 256], &[]] {
            assert_eq!(AttestationKey::from_public(&public(modulus)), None);
        }
        assert_eq!(AttestationKey::from_public(&[good, vec![0]].concat()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(AttestationKey::from_public(&bytes), None);
            prop_assert_eq!(AttestationKey::from_spki(&bytes), None);
        }
    }
}
