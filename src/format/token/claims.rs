//! Our own member of a token, `cvm-unlock`: the evidence that a keyslot is unchanged since it was enrolled,
//! and who enrolled it. It is untrusted; this file only parses it.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};
use serde_json::{Map, Value, json};

use super::error::{TokenError, VERSION};
use crate::base::hex;
use crate::base::pcr::{Pcr, PcrValues};
use crate::format::luks::binding::Binding;
use crate::format::luks::members::Members;
use crate::format::owner_key::{KeyId, Signature};

/// What an enrolment records about its keyslot.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Binds the keyslot's metadata to the sealed secret.
    pub binding: Binding,
    /// The owner's signature over the binding's message.
    pub signature: Option<Signature>,
    /// The key that signed.
    pub signer: Option<KeyId>,
    /// The PCR values that were sealed to. They serve to show which one differs, never to decide.
    pub pcrs: BTreeMap<Pcr, Vec<u8>>,
}

impl Claims {
    /// A binding without a signature.
    #[must_use]
    pub const fn new(binding: Binding) -> Self {
        Self { binding, signature: None, signer: None, pcrs: BTreeMap::new() }
    }

    /// Adds the signature by `signer`.
    #[must_use]
    pub fn signed(self, signer: KeyId, signature: Signature) -> Self {
        Self { signature: Some(signature), signer: Some(signer), ..self }
    }

    /// Adds the PCR values that were sealed to.
    #[must_use]
    pub fn sealed_to(self, values: &PcrValues) -> Self {
        Self { pcrs: values.iter().map(|(pcr, value)| (pcr, value.to_vec())).collect(), ..self }
    }

    /// Parses the member, which lies at `path`.
    pub(super) fn parse(path: &str, value: &Value) -> Result<Self, TokenError> {
        let mut members = Members::of(path, value)?;
        if members.number("version")? != VERSION {
            return Err(TokenError::Ours);
        }
        let binding = <[u8; 32]>::try_from(members.base64("binding")?).map_err(|_| TokenError::Ours)?;
        let signature = match members.has("signature") {
            true => Some(Signature::new(members.base64("signature")?).ok_or(TokenError::Ours)?),
            false => None,
        };
        let signer = match members.has("signer") {
            true => Some(hex::decode(members.text("signer")?).map(KeyId::new).ok_or(TokenError::Ours)?),
            false => None,
        };
        let pcrs = members.optional("pcrs").map_or_else(|| Ok(BTreeMap::new()), recorded)?;
        members.finish()?;
        Ok(Self { binding: Binding::new(binding), signature, signer, pcrs })
    }

    /// The member's value.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("version".to_owned(), json!(VERSION));
        members.insert("binding".to_owned(), Base64::encode_string(self.binding.bytes()).into());
        if let Some(signature) = &self.signature {
            members.insert("signature".to_owned(), Base64::encode_string(signature.bytes()).into());
        }
        if let Some(signer) = &self.signer {
            members.insert("signer".to_owned(), signer.to_string().into());
        }
        if !self.pcrs.is_empty() {
            let pcrs =
                self.pcrs.iter().map(|(pcr, value)| (pcr.number().to_string(), hex::encode(value).into()));
            members.insert("pcrs".to_owned(), Value::Object(pcrs.collect()));
        }
        Value::Object(members)
    }
}

/// A token's JSON with our member set to `proof` and everything else unchanged.
#[must_use]
pub fn with_proof(mut token: Value, proof: &Claims) -> Value {
    if let Some(members) = token.as_object_mut() {
        members.insert(NAME.to_owned(), proof.to_json());
    }
    token
}

/// `{"7": "<hex>", …}`: at most one value for each of the 24 PCRs, each as long as a digest of some bank.
fn recorded(value: &Value) -> Result<BTreeMap<Pcr, Vec<u8>>, TokenError> {
    let entries = value.as_object().ok_or(TokenError::Ours)?;
    let entry = |(pcr, value): (&String, &Value)| {
        let pcr = crate::format::luks::members::decimal(pcr)
            .and_then(|number| Pcr::new(u8::try_from(number).ok()?));
        let value = value.as_str().and_then(digest);
        pcr.zip(value).ok_or(TokenError::Ours)
    };
    entries.iter().map(entry).collect()
}

fn digest(digits: &str) -> Option<Vec<u8>> {
    if DIGEST_DIGITS.contains(&digits.len()) { hex::decode_vec(digits) } else { None }
}

/// The name of our own member; systemd ignores it.
pub(super) const NAME: &str = "cvm-unlock";
/// Hexadecimal digits of a digest: SHA-1, SHA-256, SHA-384, SHA-512.
const DIGEST_DIGITS: [usize; 4] = [40, 64, 96, 128];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use crate::base::pcr::Bank;
    use proptest::prelude::*;

    fn full() -> Claims {
        let mut values = PcrValues::new(Bank::Sha256);
        for pcr in [7, 15] {
            values.insert(Pcr::new(pcr).unwrap(), vec![pcr; 32]).unwrap();
        }
        let signature = Signature::new(vec![3; 71]).unwrap();
        Claims::new(Binding::new([1; 32])).signed(KeyId::new([2; 32]), signature).sealed_to(&values)
    }

    #[test]
    fn parse_and_emit_are_inverse() {
        for proof in [full(), Claims::new(Binding::new([9; 32]))] {
            let json = proof.to_json();
            assert_eq!(Claims::parse("p", &json).unwrap().to_json(), json);
        }
    }

    #[test]
    fn every_change_to_something_else_is_refused() {
        for (name, value, slug) in [
            ("version", json!(2), "token-binding"),
            ("binding", json!("AAAA"), "token-binding"),
            ("binding", json!(7), "token-malformed"),
            ("signature", json!(""), "token-binding"),
            ("signature", json!(Base64::encode_string(&[0; 1025])), "token-binding"),
            ("signer", json!("00"), "token-binding"),
            ("pcrs", json!([7]), "token-binding"),
            ("pcrs", json!({"24": "00"}), "token-binding"),
            ("pcrs", json!({"07": "00".repeat(32)}), "token-binding"),
            ("pcrs", json!({"7": "zz".repeat(32)}), "token-binding"),
            ("pcrs", json!({"7": "é".repeat(32)}), "token-binding"),
            ("unknown", json!(1), "token-malformed"),
        ] {
            let mut json = full().to_json();
            json[name] = value;
            assert_eq!(Claims::parse("p", &json).unwrap_err().slug(), slug, "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_texts_give_an_answer(signer in ".{0,70}", pcr in ".{0,3}", value in ".{0,130}") {
            let mut json = Claims::new(Binding::new([0; 32])).to_json();
            json["signer"] = json!(signer);
            json["pcrs"] = json!({ pcr: value });
            let _answer = Claims::parse("p", &json);
        }
    }
}
