//! The public key of a signed policy, from PEM text in a token. Both are untrusted. Nothing here decides
//! whether to trust the key: the policy of a sealed object names it, and the TPM enforces that.

use der::{DecodePem, Encode};
use pkcs1::RsaPublicKeyRef;
use sha2::{Digest, Sha256};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};
use thiserror::Error;

use crate::base::bytes;

/// An RSA public key of 1024 to 4096 bits. systemd signs with RSA only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyKey {
    modulus: Vec<u8>,
    exponent: u32,
    fingerprint: [u8; 32],
}

/// How the public area, and thus the name, encodes the public exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exponent {
    /// As a number: systemd's form.
    Explicit,
    /// As 0, which a TPM reads as 65537: some versions of systemd enrolled such keys (systemd issue 30546).
    Default,
}

impl PolicyKey {
    /// Parses a `SubjectPublicKeyInfo` in PEM.
    ///
    /// # Errors
    /// It is malformed, or not an RSA key that a TPM can have.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoOwned::from_pem(text).map_err(KeyError::Pem)?;
        if info.algorithm.oid != RSA_ENCRYPTION {
            return Err(KeyError::NotRsa);
        }
        let bits = info.subject_public_key.as_bytes().ok_or(KeyError::NotRsa)?;
        let key = RsaPublicKeyRef::try_from(bits).map_err(|_| KeyError::NotRsa)?;
        let modulus = key.modulus.as_bytes();
        // A TPM's modulus has its highest bit set, so its length in bits is eight times that in bytes.
        if !SIZES.contains(&modulus.len()) || modulus.first().is_none_or(|byte| byte & 0x80 == 0) {
            return Err(KeyError::Size);
        }
        let exponent = key
            .public_exponent
            .as_bytes()
            .iter()
            .try_fold(0_u32, |value, byte| Some(value.checked_mul(256)? | u32::from(*byte)))
            .filter(|exponent| exponent % 2 == 1 && *exponent > 1)
            .ok_or(KeyError::Size)?;
        let pkcs1 = key.to_der().map_err(|_| KeyError::NotRsa)?;
        Ok(Self { modulus: modulus.to_vec(), exponent, fingerprint: Sha256::digest(pkcs1).into() })
    }

    /// SHA-256 of the key as PKCS#1 `RSAPublicKey` in DER: `pkfp` in a signature file.
    #[must_use]
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The marshalled `TPMT_PUBLIC` that systemd loads (`tpm2_tpm2b_public_from_pem`).
    #[must_use]
    pub fn public(&self, exponent: Exponent) -> Vec<u8> {
        let bits = u16::try_from(self.modulus.len() * 8).unwrap_or(0);
        let exponent = match exponent {
            Exponent::Explicit => self.exponent,
            Exponent::Default => 0,
        };
        let mut public = PUBLIC_HEAD.to_vec();
        public.extend_from_slice(&bits.to_be_bytes());
        public.extend_from_slice(&exponent.to_be_bytes());
        // Cannot fail: at most 512 bytes.
        let pushed = bytes::push_sized(&mut public, &self.modulus);
        debug_assert!(pushed.is_ok() && bits != 0);
        public
    }

    /// The key's name: `TPM_ALG_SHA256` and the digest of its public area (TPM 2.0 Part 1, 16).
    #[must_use]
    pub fn name(&self, exponent: Exponent) -> Vec<u8> {
        [&ALG_SHA256[..], &Sha256::digest(self.public(exponent))].concat()
    }
}

/// Why a token's public key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not PEM, or not of a public key.
    #[error("Not a public key in PEM")]
    Pem(#[source] der::Error),
    /// An algorithm other than RSA.
    #[error("Not an RSA key")]
    NotRsa,
    /// A modulus or an exponent that TPMs do not support.
    #[error("Not an RSA key of 1024, 2048, 3072 or 4096 bits with an odd exponent of 32 bits")]
    Size,
}

/// `rsaEncryption` (RFC 8017, appendix A.1).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// Bytes of a modulus.
const SIZES: [usize; 4] = [128, 256, 384, 512];
const ALG_SHA256: [u8; 2] = [0x00, 0x0b];
/// `TPMT_PUBLIC` up to the key's size: RSA, SHA-256, userWithAuth + decrypt + sign, no policy, no symmetric
/// algorithm, no scheme (TPM 2.0 Part 2, 12.2.4; the attributes are systemd's).
const PUBLIC_HEAD: [u8; 14] =
    [0x00, 0x01, 0x00, 0x0b, 0x00, 0x06, 0x00, 0x40, 0x00, 0x00, 0x00, 0x10, 0x00, 0x10];

/// A test key made with openssl.
#[cfg(test)]
pub(crate) const PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtkJDkSW76KC9QeuBULJk\n\
bKUgSZxJGWzhlDJJGR56QLtT+MOMp60Bm5wTgzzt++k7HJzxECcEB7frxDDlkINU\n\
z8pHjoq7VhonI8sDCTuDiDdG2NF2cpHbUoI0IEqTD6rbXKoAusq/ey5Hzzuzj1kg\n\
1iDQspUK4eSKDlwnpcAFkqk8iJY528mAU6igylBZ1bP3DiE7notfITUm9NsxEQ6g\n\
jPio8MQyIoD05ll1E4hA5MvjNpy1CfEI+giHq0OpAP/q3GSx2EORXNSeIxsnKKCA\n\
YHiF4XJhvvuJUHrtdZBVBxzgoUb8C+9LevKsjZS3+6njK4BzQc6sfvLQNvynycb0\n\
WQIDAQAB\n\
-----END PUBLIC KEY-----\n\
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;

    #[test]
    fn the_fingerprint_is_that_of_systemd_measure() {
        // Member `pkfp` of systemd 252's output; the second command gives the same:
        //   systemd-measure sign --linux=… --private-key=… --public-key=…
        //   openssl rsa -pubin -RSAPublicKey_out -outform DER | sha256sum
        let golden = "58bc055ec97b25afb09a8d185ef9d1d0f9910018f1c93f476104a1e885ee88ac";
        assert_eq!(hex::encode(PolicyKey::from_pem(PEM).unwrap().fingerprint()), golden);
    }

    #[test]
    fn the_name_is_that_of_the_tpm() {
        let key = PolicyKey::from_pem(PEM).unwrap();
        // tpm2-tools 5.4:
        //   tpm2_loadexternal -C o -G rsa -u pub.pem -a 'decrypt|sign|userwithauth' -n name -c key.ctx
        assert_eq!(hex::encode(&key.name(Exponent::Explicit)), NAME);
        assert_ne!(key.name(Exponent::Explicit), key.name(Exponent::Default));
    }

    #[test]
    fn other_keys_and_other_text_are_refused() {
        assert_eq!(PolicyKey::from_pem(ECC_PEM).unwrap_err(), KeyError::NotRsa);
        assert_eq!(PolicyKey::from_pem(SMALL_PEM).unwrap_err(), KeyError::Size);
        for text in [
            "",
            "-----BEGIN PUBLIC KEY-----",
            &PEM.replace("PUBLIC", "PRIVATE"),
            &PEM.replace("MIIB", "*IIB"),
        ] {
            assert!(matches!(PolicyKey::from_pem(text), Err(KeyError::Pem(_))), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_changed_character_gives_an_answer(position in 0..PEM.len(), with in proptest::char::any()) {
            let text: String =
                PEM.char_indices().map(|(at, c)| if at == position { with } else { c }).collect();
            if let Ok(key) = PolicyKey::from_pem(&text) {
                proptest::prop_assert_eq!(key.name(Exponent::Explicit).len(), 34);
            }
        }
    }

    const NAME: &str = "000b3aa9569f7f54e41596bf65f11130479c2361ce559a556466824437969318a2c9";
    // openssl ecparam -name prime256v1 -genkey | openssl ec -pubout
    const ECC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaV0VzazonP/7R/+aZ21MS2rtblPX\n\
UXM6T1e8XBcKgqkrY+uHumkSSeziANZtAkqJQcAdy6AZboIZFeLKRjO4pQ==\n\
-----END PUBLIC KEY-----\n\
";
    // openssl genrsa 512 | openssl rsa -pubout
    const SMALL_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL6InanZUMYCI1+cku5lAUGrfQhH1bcO\n\
mjm1wn/lScl61ZajAHXbbsV/POmkQnju/GBoDpryG9spyXMzpmEdL0cCAwEAAQ==\n\
-----END PUBLIC KEY-----\n\
";
}
