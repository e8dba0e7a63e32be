//! Tokens of type `cvm-unlock-kbs`: a keyslot whose passphrase a key broker holds. Tokens are untrusted. The
//! type is ours alone, so an unknown member is an error.
//!
//! Parsing does not authorise a token. The configuration limits where its path may point
//! ([`crate::attest::protocol::ResourceTemplate::accept`]), and the next stage checks its proof.

use serde_json::{Map, Value, json};

use super::claims;
use super::claims::Claims;
use super::error::TokenError;
use super::prelude::prelude;
use crate::format::luks::token_type;

/// A token for a keyslot whose passphrase a key broker holds.
#[derive(Clone, Debug)]
pub struct KeyBrokerToken {
    /// The token's number in the header.
    pub id: u32,
    /// The keyslot.
    pub keyslot: u32,
    /// Where the key broker keeps the key, if not where the configuration says.
    pub path: Option<String>,
    /// Binding and owner's signature, if the token has them.
    pub proof: Option<Claims>,
}

impl KeyBrokerToken {
    /// Parses the token with the number `id`.
    ///
    /// # Errors
    /// It has another type, or is not what an enrolment writes.
    pub fn parse(id: u32, value: &Value) -> Result<Self, TokenError> {
        let (mut members, keyslot) = prelude(id, value, TYPE)?;
        let path = match members.has("path") {
            true => Some(path(members.text("path")?).ok_or(TokenError::Path)?),
            false => None,
        };
        let proof =
            members.optional(claims::NAME).map(|value| Claims::parse(&members.at(claims::NAME), value));
        let proof = proof.transpose()?;
        // Nothing is sealed to PCRs here.
        if proof.as_ref().is_some_and(|proof| !proof.pcrs.is_empty()) {
            return Err(TokenError::Ours);
        }
        members.finish()?;
        Ok(Self { id, keyslot, path, proof })
    }

    /// The token in the header's form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("type".to_owned(), TYPE.into());
        members.insert("keyslots".to_owned(), json!([self.keyslot.to_string()]));
        if let Some(path) = &self.path {
            members.insert("path".to_owned(), path.as_str().into());
        }
        if let Some(proof) = &self.proof {
            members.insert(claims::NAME.to_owned(), proof.to_json());
        }
        Value::Object(members)
    }
}

/// Accepts printable text that is no longer than the three segments of a path.
fn path(text: &str) -> Option<String> {
    let printable = |byte: u8| matches!(byte, b' '..=b'~');
    ((1..=PATH_LIMIT).contains(&text.len()) && text.bytes().all(printable)).then(|| text.to_owned())
}

/// The token's type.
pub const TYPE: &str = token_type::KEY_BROKER;
/// Bytes: three segments of 128, and the separators between them.
const PATH_LIMIT: usize = 386;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use crate::format::luks::binding::Binding;
    use crate::format::owner_key::{KeyId, Signature};
    use proptest::prelude::*;

    fn full() -> KeyBrokerToken {
        let proof = Claims::new(Binding::new([1; 32]))
            .signed(KeyId::new([2; 32]), Signature::new(vec![3; 71]).unwrap());
        KeyBrokerToken { id: 4, keyslot: 2, path: Some("default/disk/root".to_owned()), proof: Some(proof) }
    }

    #[test]
    fn parse_and_emit_are_inverse() {
        for token in [full(), KeyBrokerToken { path: None, proof: None, ..full() }] {
            let json = token.to_json();
            let parsed = KeyBrokerToken::parse(4, &json).unwrap();
            assert_eq!((parsed.id, parsed.keyslot, &parsed.path), (4, 2, &token.path));
            assert_eq!(parsed.to_json(), json);
        }
    }

    #[test]
    fn every_change_to_something_else_is_refused() {
        for (name, value, slug) in [
            ("type", json!("systemd-tpm2"), "token-other-type"),
            ("type", json!(1), "token-malformed"),
            ("keyslots", json!([]), "token-keyslots"),
            ("keyslots", json!(["1", "2"]), "token-keyslots"),
            ("keyslots", json!(["32"]), "token-malformed"),
            ("keyslots", json!([2]), "token-malformed"),
            ("path", json!(""), "token-path"),
            ("path", json!("x".repeat(387)), "token-path"),
            ("path", json!("default/disk/\u{1b}[31m"), "token-path"),
            ("path", json!("default/disk/\u{e4}"), "token-path"),
            ("path", json!("default/disk/x\n"), "token-path"),
            ("path", Value::Null, "token-malformed"),
            ("cvm-unlock", json!({}), "token-malformed"),
            ("cvm-unlock", Value::Null, "token-malformed"),
            ("secret", json!("x"), "token-malformed"),
        ] {
            let mut json = full().to_json();
            json[name] = value;
            assert_eq!(KeyBrokerToken::parse(4, &json).unwrap_err().slug(), slug, "{json}");
        }
        for name in ["type", "keyslots"] {
            let mut json = full().to_json();
            json.as_object_mut().unwrap().remove(name);
            assert_eq!(KeyBrokerToken::parse(4, &json).unwrap_err().slug(), "token-malformed", "{json}");
        }
        for value in [json!([]), json!("cvm-unlock-kbs"), Value::Null] {
            assert_eq!(KeyBrokerToken::parse(4, &value).unwrap_err().slug(), "token-malformed");
        }
    }

    #[test]
    fn nothing_of_a_tpm_is_in_its_proof() {
        let mut json = full().to_json();
        json["cvm-unlock"]["pcrs"] = json!({"7": "00".repeat(32)});
        assert_eq!(KeyBrokerToken::parse(4, &json).unwrap_err().slug(), "token-binding");
    }

    #[test]
    fn where_the_path_may_point_is_not_judged_here() {
        for path in ["x", "../../etc/passwd", "a b", &"x".repeat(386)] {
            let json = KeyBrokerToken { path: Some(path.to_owned()), ..full() }.to_json();
            assert_eq!(KeyBrokerToken::parse(4, &json).unwrap().path.as_deref(), Some(path));
        }
    }

    proptest! {
        #[test]
        fn any_texts_give_an_answer(kind in "cvm-unlock-kbs|.{0,20}", slot in ".{0,3}", path in ".{0,400}") {
            let json = json!({"type": kind, "keyslots": [slot], "path": path});
            if let Ok(token) = KeyBrokerToken::parse(0, &json) {
                prop_assert!(token.path.as_ref().unwrap().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
                prop_assert_eq!(token.to_json(), json);
            }
        }
    }
}
