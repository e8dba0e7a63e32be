//! Opens the envelope around a resource: a flattened JWE (RFC 7516, 7.2.2) with ECDH-ES+A256KW on P-256 and
//! A256GCM.
//!
//! Anybody who knows our public key can make one, so an envelope that opens does not show who sent it. The
//! pinned certificate does.

use aes_kw::{KeyInit, KwAes256};
use base64ct::{Base64UrlUnpadded, Encoding};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::ProtocolError;
use super::object::Object;
use super::tee_key::{ALGORITHM, Point, SharedSecret, TeeKey};
use crate::base::secret::Secret;

/// An envelope of the one kind that we support.
pub struct Envelope {
    /// As sent: it is authenticated in this form (RFC 7516, 5.1, step 14).
    protected: String,
    peer: Point,
    encrypted_key: [u8; WRAPPED_KEY],
    iv: [u8; NONCE_LEN],
    /// With the tag appended.
    ciphertext: Vec<u8>,
}

impl Envelope {
    /// Parses the body of the answer to `GET /resource/…`.
    ///
    /// # Errors
    /// It is malformed, or uses algorithms or headers that we do not support.
    pub fn parse(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut object = Object::parse("The envelope", body)?;
        let protected = object.text("protected")?;
        let header = Base64UrlUnpadded::decode_vec(&protected)
            .map_err(|_| object.wrong("protected", "is not base64url"))?;
        let peer = parse_header(&header)?;
        let encrypted_key = bytes(&mut object, "encrypted_key", "is not base64url of 40 bytes")?;
        let iv = bytes(&mut object, "iv", "is not base64url of 12 bytes")?;
        let text = object.text("ciphertext")?;
        let mut ciphertext = Base64UrlUnpadded::decode_vec(&text)
            .map_err(|_| object.wrong("ciphertext", "is not base64url"))?;
        let tag: [u8; TAG] = bytes(&mut object, "tag", "is not base64url of 16 bytes")?;
        ciphertext.extend_from_slice(&tag);
        // `aad`, `header`, `unprotected` and `recipients` would change the meaning of the others.
        object.finish()?;
        Ok(Self { protected, peer, encrypted_key, iv, ciphertext })
    }

    /// Opens it.
    ///
    /// # Errors
    /// It was made for another key, or was changed.
    pub fn open(self, key: TeeKey) -> Result<Secret, ProtocolError> {
        let shared = key.agree(&self.peer).ok_or(ProtocolError::Sealed)?;
        self.open_with(&shared)
    }

    fn open_with(mut self, shared: &SharedSecret) -> Result<Secret, ProtocolError> {
        let wrapping = KwAes256::new((&*concat_kdf(shared)).into());
        let mut content_key = Zeroizing::new([0; KEY]);
        wrapping.unwrap_key(&self.encrypted_key, &mut *content_key).map_err(|_| ProtocolError::Sealed)?;
        let content_key = UnboundKey::new(&AES_256_GCM, &*content_key).map_err(|_| ProtocolError::Sealed)?;
        let nonce = Nonce::assume_unique_for_key(self.iv);
        let plaintext = LessSafeKey::new(content_key)
            .open_in_place(nonce, Aad::from(&self.protected), &mut self.ciphertext)
            .map_err(|_| ProtocolError::Sealed)?;
        let length = plaintext.len();
        self.ciphertext.truncate(length);
        Ok(Secret::new(self.ciphertext))
    }
}

fn parse_header(bytes: &[u8]) -> Result<Point, ProtocolError> {
    let mut header = Object::parse("The protected header", bytes)?;
    header.exactly("alg", ALGORITHM, "is not ECDH-ES+A256KW")?;
    header.exactly("enc", "A256GCM", "is not A256GCM")?;
    let mut key = header.object("epk")?;
    // No `crit`, `zip`, `apu`, `apv`.
    header.finish()?;
    key.exactly("kty", "EC", "is not EC")?;
    key.exactly("crv", "P-256", "is not P-256")?;
    let (x, y) = (key.text("x")?, key.text("y")?);
    let point = Point::from_coordinates(&x, &y)
        .ok_or_else(|| key.wrong("x", "is, with y, not base64url of 32 bytes each"))?;
    key.finish()?;
    Ok(point)
}

fn bytes<const N: usize>(
    object: &mut Object,
    name: &'static str,
    problem: &'static str,
) -> Result<[u8; N], ProtocolError> {
    let text = object.text(name)?;
    let mut buffer = [0; N];
    match Base64UrlUnpadded::decode(&text, &mut buffer) {
        Ok(decoded) if decoded.len() == N => Ok(buffer),
        _ => Err(object.wrong(name, problem)),
    }
}

/// The key-wrapping key (RFC 7518, 4.6.2). One round of the Concat KDF is enough for 256 bits; `apu` and
/// `apv` are empty.
fn concat_kdf(shared: &SharedSecret) -> Zeroizing<[u8; KEY]> {
    let mut hash = Sha256::new();
    hash.update(1_u32.to_be_bytes());
    hash.update(shared.as_slice());
    hash.update(14_u32.to_be_bytes());
    hash.update(ALGORITHM);
    hash.update([0; 8]);
    hash.update(256_u32.to_be_bytes());
    Zeroizing::new(hash.finalize().into())
}

/// Bytes of a 256-bit key.
const KEY: usize = 32;
/// RFC 3394: eight bytes more than the key.
const WRAPPED_KEY: usize = KEY + 8;
/// RFC 7518, 5.3.
const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::protocol::body;
    use crate::base::hex;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const RECORDED: &str =
        include_str!("../../../tests/data/kbs/tpm-affirming/03-get-resource_default_disk_root.response.txt");
    // openssl pkeyutl -derive -inkey tee-key.pem -peerkey epk.pem | xxd -p
    // (`epk.pem` is the point of the recorded header.)
    const SHARED: &str = "6a9d15257bc5060d24a478c7bded51a96c0953c208a764e4047777bb740d4b5d";

    fn shared() -> SharedSecret {
        Zeroizing::new(hex::decode(SHARED).unwrap())
    }

    fn recorded() -> Value {
        serde_json::from_str(body(RECORDED)).unwrap()
    }

    fn parse(value: &Value) -> Result<Envelope, ProtocolError> {
        Envelope::parse(value.to_string().as_bytes())
    }

    fn with_header(change: impl FnOnce(&mut Value)) -> Value {
        let mut envelope = recorded();
        let text = envelope["protected"].as_str().unwrap();
        let mut header: Value =
            serde_json::from_slice(&Base64UrlUnpadded::decode_vec(text).unwrap()).unwrap();
        change(&mut header);
        envelope["protected"] = Base64UrlUnpadded::encode_string(header.to_string().as_bytes()).into();
        envelope
    }

    #[test]
    fn what_trustee_sealed_is_opened() {
        assert_eq!(ALGORITHM.len(), 14);
        let secret = Envelope::parse(body(RECORDED).as_bytes()).unwrap().open_with(&shared()).unwrap();
        assert_eq!(secret.expose(), b"this-is-the-luks-passphrase-for-root\n");
    }

    #[test]
    fn any_changed_part_seals_it_for_good() {
        for name in ["encrypted_key", "iv", "ciphertext", "tag"] {
            let mut value = recorded();
            let mut text = value[name].as_str().unwrap().to_owned();
            let first = if text.starts_with('A') { "B" } else { "A" };
            text.replace_range(0..1, first);
            value[name] = text.into();
            assert_eq!(
                parse(&value).unwrap().open_with(&shared()).err(),
                Some(ProtocolError::Sealed),
                "{name}"
            );
        }
        // The same header, spelt differently.
        let reordered = with_header(|header| header["enc"] = json!("A256GCM"));
        let mut spaced = reordered.clone();
        let text = Base64UrlUnpadded::decode_vec(reordered["protected"].as_str().unwrap()).unwrap();
        spaced["protected"] = Base64UrlUnpadded::encode_string(&[b" ", text.as_slice()].concat()).into();
        assert_eq!(parse(&spaced).unwrap().open_with(&shared()).err(), Some(ProtocolError::Sealed));
    }

    #[test]
    fn another_key_does_not_open_it() {
        let envelope = Envelope::parse(body(RECORDED).as_bytes()).unwrap();
        assert_eq!(envelope.open(TeeKey::generate().unwrap()).err(), Some(ProtocolError::Sealed));
    }

    #[test]
    fn other_algorithms_and_headers_are_refused() {
        let changes: [fn(&mut Value); 11] = [
            |header| header["alg"] = json!("dir"),
            |header| header["alg"] = json!("RSA1_5"),
            |header| header["enc"] = json!("A128CBC-HS256"),
            |header| header["zip"] = json!("DEF"),
            |header| header["crit"] = json!([]),
            |header| header["apu"] = json!("QQ"),
            |header| header["epk"]["crv"] = json!("P-521"),
            |header| header["epk"]["kty"] = json!("OKP"),
            |header| header["epk"]["x"] = json!("QQ"),
            |header| header["epk"]["d"] = json!("QQ"),
            |header| *header = json!([]),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(parse(&with_header(change)).is_err(), "{number}");
        }
        for name in ["aad", "header", "unprotected", "recipients"] {
            let mut value = recorded();
            value[name] = json!("QQ");
            assert!(matches!(parse(&value), Err(ProtocolError::Unknown { .. })), "{name}");
        }
    }

    #[test]
    fn missing_and_mistyped_members_are_refused() {
        for name in ["protected", "encrypted_key", "iv", "ciphertext", "tag"] {
            for other in [None, Some(json!(1)), Some(json!("Q=="))] {
                let mut value = recorded();
                match other {
                    None => drop(value.as_object_mut().unwrap().remove(name)),
                    Some(other) => value[name] = other,
                }
                assert!(parse(&value).is_err(), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_gives_an_answer_and_never_a_secret(position in 0..400_usize, byte: u8) {
            let mut bytes = body(RECORDED).trim_end().as_bytes().to_vec();
            let position = position % bytes.len();
            let changed = bytes[position] != byte;
            bytes[position] = byte;
            if let Ok(envelope) = Envelope::parse(&bytes) {
                prop_assert!(!changed || envelope.open_with(&shared()).is_err());
            }
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Envelope::parse(&bytes).is_err());
        }
    }
}
