//! An owner's public key, from PEM text in the measured configuration. It verifies signatures, which come
//! from untrusted disks.

use std::fmt;

use der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use der::{Decode, Document, EncodePem, Reader, SliceReader};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spki::SubjectPublicKeyInfoRef;
use thiserror::Error;

/// A public key whose algorithm and strength we accept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    algorithm: Algorithm,
    /// The algorithm's own form of the key: a point, or an `RSAPublicKey`.
    key: Vec<u8>,
    /// `SubjectPublicKeyInfo` in DER.
    der: Vec<u8>,
}

/// Signature algorithms for owner keys, all with SHA-256 or stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    EcdsaP256,
    Rsa,
    Ed25519,
}

/// Identifies a public key: SHA-256 of its `SubjectPublicKeyInfo` in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; 32]);

/// The bytes of a signature, in the algorithm's usual form (ECDSA: DER).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

impl PublicKey {
    /// Parses PEM text with the label `PUBLIC KEY`.
    ///
    /// # Errors
    /// It is not such a text, or we do not accept the key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, document) = Document::from_pem(text.trim()).map_err(KeyError::Pem)?;
        if label == PEM_LABEL {
            Self::from_der(document.as_bytes())
        } else {
            Err(KeyError::Label(label.to_owned()))
        }
    }

    /// Parses a `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7) in DER.
    ///
    /// # Errors
    /// It is not such a structure, or we do not accept the key.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| KeyError::Malformed)?;
        let key = info.subject_public_key.as_bytes().ok_or(KeyError::Malformed)?;
        let algorithm = match (info.algorithm.oid, info.algorithm.parameters) {
            (EC_PUBLIC_KEY, Some(curve)) if oid(curve) == Some(PRIME256V1) => {
                point(key).map(|()| Algorithm::EcdsaP256)
            }
            (EC_PUBLIC_KEY, _) => Err(KeyError::Curve),
            (RSA, Some(null)) if null.is_null() => modulus(key).map(|()| Algorithm::Rsa),
            (ED25519, None) if key.len() == ED25519_BYTES => Ok(Algorithm::Ed25519),
            (RSA | ED25519, _) => Err(KeyError::Malformed),
            _ => Err(KeyError::Algorithm),
        }?;
        Ok(Self { algorithm, key: key.to_vec(), der: der.to_vec() })
    }

    /// The key's identifier.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::digest(&self.der).into())
    }

    /// Whether `signature` over `message` was made with the private half of this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Ed25519 => &signature::ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, &signature.0).is_ok()
    }

    /// PEM text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        // A key that was parsed can be encoded. If that failed, every reader would refuse the empty text.
        SubjectPublicKeyInfoRef::from_der(&self.der)
            .and_then(|info| info.to_pem(der::pem::LineEnding::LF))
            .unwrap_or_default()
    }
}

impl KeyId {
    /// An identifier from a token.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.algorithm, self.id())
    }
}

impl Signature {
    /// Wraps bytes that could be a signature; `None` if there are none or too many.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        matches!(bytes.len(), 1..=SIGNATURE_LIMIT).then_some(Self(bytes))
    }

    /// The bytes for a token.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::from_pem(&text)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_pem()
    }
}

fn oid(parameters: AnyRef<'_>) -> Option<ObjectIdentifier> {
    parameters.decode_as().ok()
}

/// Checks an uncompressed point (SEC 1, 2.3.3). Each verification checks that it lies on the curve.
fn point(key: &[u8]) -> Result<(), KeyError> {
    if key.len() == POINT_BYTES && key.first() == Some(&UNCOMPRESSED) {
        Ok(())
    } else {
        Err(KeyError::Malformed)
    }
}

/// Checks an `RSAPublicKey` (RFC 8017, A.1.1) for a strength that the verification accepts.
fn modulus(key: &[u8]) -> Result<(), KeyError> {
    let malformed = |_: der::Error| KeyError::Malformed;
    let mut reader = SliceReader::new(key).map_err(malformed)?;
    let (modulus, exponent) = reader
        .sequence(|reader| Ok::<_, der::Error>((UintRef::decode(reader)?, UintRef::decode(reader)?)))
        .map_err(malformed)?;
    reader.finish().map_err(malformed)?;
    let bytes = modulus.as_bytes();
    let bits = bytes.len().saturating_mul(8);
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    let exponent = exponent.as_bytes();
    if !(MODULUS_BITS.contains(&bits) && bytes.first().is_some_and(|byte| byte & 0x80 != 0) && odd(bytes)) {
        return Err(KeyError::Modulus);
    }
    if matches!(exponent.len(), 3..=4) && odd(exponent) { Ok(()) } else { Err(KeyError::Exponent) }
}

/// Why a text is refused as an owner's public key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not PEM.
    #[error("an owner key is PEM text that begins with '-----BEGIN PUBLIC KEY-----'")]
    Pem(#[source] der::Error),
    /// PEM of something else, perhaps of a private key.
    #[error("an owner key is a PUBLIC KEY, not a {0}: openssl pkey -in owner.key -pubout")]
    Label(String),
    /// Not the structure that the label announces.
    #[error("an owner key's SubjectPublicKeyInfo is malformed")]
    Malformed,
    /// A curve other than P-256.
    #[error("an owner key on an elliptic curve is one of P-256")]
    Curve,
    /// An algorithm that we do not accept.
    #[error("an owner key is one of ECDSA P-256, RSA or Ed25519")]
    Algorithm,
    /// A modulus that is too weak or too large.
    #[error("an RSA owner key has 2048 to 8192 bits, a multiple of 8")]
    Modulus,
    /// An unusual exponent.
    #[error("an RSA owner key has an exponent of 65537 or more")]
    Exponent,
}

/// RFC 7468, 13.
pub(crate) const PEM_LABEL: &str = "PUBLIC KEY";
/// `id-ecPublicKey` (RFC 5480, 2.1.1).
pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1`, also called `prime256v1` and P-256 (RFC 5480, 2.1.1.1).
pub(crate) const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `rsaEncryption` (RFC 8017, A.1).
pub(crate) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-Ed25519` (RFC 8410, 3).
pub(crate) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// Bytes of an Ed25519 public key (RFC 8032, 5.1.5).
const ED25519_BYTES: usize = 32;
/// Bytes of an uncompressed P-256 point, and its first byte (SEC 1, 2.3.3).
const POINT_BYTES: usize = 65;
const UNCOMPRESSED: u8 = 4;
/// Limits of the verification (`RSA_PKCS1_2048_8192_SHA256`).
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes: an RSA signature has the length of its modulus.
const SIGNATURE_LIMIT: usize = 1024;

#[cfg(test)]
mod tests;
