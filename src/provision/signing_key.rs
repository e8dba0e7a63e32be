//! An owner's private key, from a PEM file that the administrator names. It signs bindings where images are
//! built, never on the unlock path.

use der::asn1::{AnyRef, BitStringRef};
use der::{Encode, SecretDocument};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use thiserror::Error;

use crate::base::error::failures;
use crate::base::secret::Secret;
use crate::format::owner_key::{EC_PUBLIC_KEY, ED25519, PRIME256V1, RSA};
use crate::format::owner_key::{KeyError, PublicKey, Signature};

/// A private key for signing, with its public half.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    EcdsaP256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Parses the PEM text of an unencrypted PKCS#8 key, as `openssl genpkey` writes it.
    ///
    /// # Errors
    /// It is malformed, or we do not accept the key.
    pub fn from_pem(text: &Secret) -> Result<Self, SignError> {
        let text = std::str::from_utf8(text.expose()).map_err(|_| SignError::Pem)?;
        let (label, document) = SecretDocument::from_pem(text.trim()).map_err(|_| SignError::Pem)?;
        if label != PEM_LABEL {
            return Err(SignError::Label(label.to_owned()));
        }
        let pair = Pair::from_pkcs8(document.as_bytes()).ok_or(SignError::Key)?;
        let public = PublicKey::from_der(&pair.public().ok_or(SignError::Key)?).map_err(SignError::Public)?;
        Ok(Self { pair, public })
    }

    /// The public half, which the image's configuration must name.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message` (ECDSA and RSA: its SHA-256), and verifies the signature.
    ///
    /// # Errors
    /// The kernel returned no random numbers, or the key contradicts itself.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        let random = SystemRandom::new();
        let bytes = match &self.pair {
            Pair::EcdsaP256(pair) => pair.sign(&random, message).map(|made| made.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut bytes = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut bytes).map(|()| bytes)
            }
        };
        let made = bytes.ok().and_then(Signature::new).ok_or(SignError::Sign)?;
        if self.public.verify(message, &made) { Ok(made) } else { Err(SignError::Sign) }
    }
}

impl Pair {
    /// Parses a key of any supported algorithm, which its structure names.
    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let ecdsa = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(ecdsa, der, &SystemRandom::new()) {
            return Some(Self::EcdsaP256(pair));
        }
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            return Some(Self::Rsa(pair));
        }
        // openssl omits the public half (RFC 5958, version 0), so there is nothing to compare with.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Self::Ed25519)
    }

    /// The public half as a `SubjectPublicKeyInfo`; never `None` for a parsed key.
    fn public(&self) -> Option<Vec<u8>> {
        let (oid, parameters, key) = match self {
            Self::EcdsaP256(pair) => {
                (EC_PUBLIC_KEY, Some(AnyRef::from(&PRIME256V1)), pair.public_key().as_ref())
            }
            Self::Rsa(pair) => (RSA, Some(AnyRef::NULL), pair.public_key().as_ref()),
            Self::Ed25519(pair) => (ED25519, None, pair.public_key().as_ref()),
        };
        let algorithm = AlgorithmIdentifierRef { oid, parameters };
        let info =
            SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(key).ok()? };
        info.to_der().ok()
    }
}

/// Why a file is not a signing key, or did not yield a signature.
#[derive(Debug, Error)]
pub enum SignError {
    /// Not PEM.
    #[error("The signing key is not PEM text")]
    Pem,
    /// PEM of something else.
    #[error("The signing key is a {0}, not an unencrypted PRIVATE KEY")]
    Label(String),
    /// Not PKCS#8, or of another algorithm.
    #[error("The signing key is none of ECDSA P-256, RSA (2048 bits or more) or Ed25519 in PKCS#8")]
    Key,
    /// A key that a configuration would refuse as too weak.
    #[error("The signing key's public half is not acceptable")]
    Public(#[source] KeyError),
    /// No signature, or one that does not verify.
    #[error("Signing failed")]
    Sign,
}

failures! { SignError:
    Self::Pem | Self::Label(_) | Self::Key | Self::Public(_) => "sign-key", Usage,
        "Make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out owner.key; convert \
         another: openssl pkcs8 -topk8 -nocrypt -in old.key -out owner.key";
    Self::Sign => "sign-failed", Internal, "The private key may not belong to its own public half";
}

/// RFC 7468, 10.
const PEM_LABEL: &str = "PRIVATE KEY";
