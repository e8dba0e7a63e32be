//! Parses the key broker's challenge.

use base64ct::{Base64, Encoding};
use serde_json::Value;

use super::error::{ProtocolError, excerpt};
use super::object::Object;

/// What evidence must be bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The key broker's random number.
    pub nonce: Nonce,
}

/// A nonce as the key broker wrote it: the text itself is hashed and sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Challenge {
    /// Parses the body of the answer to `POST /auth`.
    ///
    /// # Errors
    /// It is not a challenge, or demands a hash other than SHA-384.
    pub fn parse(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut object = Object::parse(WHAT, body)?;
        let text = object.text("nonce")?;
        let nonce =
            Nonce::parse(&text).ok_or_else(|| object.wrong("nonce", "is not base64 of 16 to 64 bytes"))?;
        if let Some(Value::Object(parameters)) = object.optional("extra-params") {
            match parameters.get("selected-hash-algorithm") {
                None => {}
                Some(Value::String(hash)) if hash == "sha384" => {}
                Some(other) => return Err(ProtocolError::Hash(excerpt(&other.to_string()))),
            }
        }
        Ok(Self { nonce })
    }
}

impl Nonce {
    /// Parses base64 of 16 to 64 bytes. Trustee sends 32.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Checked before decoding, so that nothing large is allocated.
        let decoded = if text.len() <= 88 { Base64::decode_vec(text).ok()? } else { return None };
        (16..=64).contains(&decoded.len()).then(|| Self(text.to_owned()))
    }

    /// A nonce of our own, for evidence that no key broker requested.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Base64::encode_string(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const WHAT: &str = "The challenge";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn recorded_challenges_are_understood() {
        for recording in [
            include_str!("../../../tests/data/kbs/sample-affirming/04-post-auth.response.txt"),
            include_str!("../../../tests/data/kbs/tpm-affirming/01-post-auth.response.txt"),
            include_str!("../../../tests/data/kbs/policy-deny/09-post-auth.response.txt"),
        ] {
            let body = super::super::body(recording);
            let nonce = Challenge::parse(body.as_bytes()).unwrap().nonce;
            assert!(body.contains(&format!("{{\"nonce\":\"{}\",", nonce.as_str())));
        }
    }

    #[test]
    fn another_hash_is_refused_by_its_name() {
        let with = |parameters: &str| {
            let nonce = Base64::encode_string(&[7; 32]);
            Challenge::parse(format!(r#"{{"nonce":"{nonce}","extra-params":{parameters}}}"#).as_bytes())
        };
        for accepted in [r#""""#, "{}", r#"{"selected-hash-algorithm":"sha384"}"#] {
            assert!(with(accepted).is_ok(), "{accepted}");
        }
        for refused in [r#"{"selected-hash-algorithm":"sm3"}"#, r#"{"selected-hash-algorithm":1}"#] {
            assert!(matches!(with(refused), Err(ProtocolError::Hash(_))), "{refused}");
        }
    }

    #[test]
    fn a_short_a_long_or_no_nonce_is_refused() {
        for nonce in
            [String::new(), "AAAA".into(), Base64::encode_string(&[0; 65]), "A".repeat(1 << 20), "?".into()]
        {
            let body = format!(r#"{{"nonce":"{nonce}","extra-params":""}}"#);
            assert!(Challenge::parse(body.as_bytes()).is_err());
        }
        assert!(Challenge::parse(br#"{"extra-params":""}"#).is_err());
        assert!(Challenge::parse(br#"{"nonce":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Challenge::parse(&body);
        }
    }
}
