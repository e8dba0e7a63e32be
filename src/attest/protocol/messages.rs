//! The messages that we send, with members in the order of Trustee's own client.

use serde::Serialize;
use serde_json::Value;

use super::challenge::Nonce;
use super::object::Object;
use super::{ProtocolError, PublicJwk, Version};

/// The body of `POST /auth`, with one of the platform's names.
#[must_use]
pub fn request(version: Version, tee: &str) -> String {
    let request = Request {
        version: version.as_str(),
        tee,
        extra_params: match version {
            Version::V0_4_0 => ExtraParams::Hashes { algorithms: ["sha384"] },
            Version::V0_2_0 => ExtraParams::None(""),
        },
    };
    text(&request)
}

/// The body of `POST /attest`. The report data binds evidence to the nonce and the key.
#[derive(Clone, Copy)]
pub struct Attestation<'a> {
    /// The nonce of the challenge.
    pub nonce: &'a Nonce,
    /// The key to encrypt the answer to.
    pub key: &'a PublicJwk,
    /// The platform's evidence.
    pub primary: &'a Value,
    /// The text of other devices' evidence; empty if there is none. 0.4.0 only.
    pub additional: &'a str,
    /// Init-data in TOML, whose digest the evidence carries. 0.4.0 only.
    pub init_data: Option<&'a str>,
}

impl Attestation<'_> {
    /// The body in the form of `version`.
    #[must_use]
    pub fn body(&self, version: Version) -> String {
        match version {
            Version::V0_4_0 => text(&Body {
                init_data: self.init_data.map(|body| InitData { format: "toml", body }),
                runtime_data: RuntimeData { nonce: self.nonce.as_str(), tee_pubkey: self.key },
                tee_evidence: TeeEvidence {
                    primary_evidence: self.primary,
                    additional_evidence: self.additional,
                },
            }),
            Version::V0_2_0 => text(&OldBody { tee_pubkey: self.key, tee_evidence: self.primary }),
        }
    }
}

/// Checks the body of the answer to `POST /attest`. We do not use its token: the session is attested.
///
/// # Errors
/// It contains no token.
pub fn check_token(body: &[u8]) -> Result<(), ProtocolError> {
    let mut object = Object::parse("The attestation's answer", body)?;
    if object.text("token")?.is_empty() { Err(object.wrong("token", "is empty")) } else { Ok(()) }
}

fn text(message: &impl Serialize) -> String {
    // Structures of strings and JSON trees can always be written.
    serde_json::to_string(message).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Request<'a> {
    version: &'a str,
    tee: &'a str,
    extra_params: ExtraParams,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ExtraParams {
    None(&'static str),
    Hashes {
        #[serde(rename = "supported-hash-algorithms")]
        algorithms: [&'static str; 1],
    },
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Body<'a> {
    init_data: Option<InitData<'a>>,
    runtime_data: RuntimeData<'a>,
    tee_evidence: TeeEvidence<'a>,
}

#[derive(Serialize)]
struct InitData<'a> {
    format: &'static str,
    body: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RuntimeData<'a> {
    nonce: &'a str,
    tee_pubkey: &'a PublicJwk,
}

#[derive(Serialize)]
struct TeeEvidence<'a> {
    primary_evidence: &'a Value,
    additional_evidence: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct OldBody<'a> {
    tee_pubkey: &'a PublicJwk,
    tee_evidence: &'a Value,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::protocol::body;
    use serde_json::json;

    #[test]
    fn a_request_is_trustees_own_but_for_the_hashes_that_we_do_not_have() {
        let recorded =
            body(include_str!("../../../tests/data/kbs/sample-affirming/04-post-auth.request.txt"));
        let expected = recorded.trim_end().replace(r#"["sha256","sha384","sha512","sm3"]"#, r#"["sha384"]"#);
        assert_eq!(request(Version::V0_4_0, "sample"), expected);
        assert_eq!(request(Version::V0_2_0, "snp"), r#"{"version":"0.2.0","tee":"snp","extra-params":""}"#);
    }

    #[test]
    fn an_attestation_is_trustees_own_byte_for_byte() {
        for recording in [
            include_str!("../../../tests/data/kbs/sample-affirming/05-post-attest.request.txt"),
            include_str!("../../../tests/data/kbs/policy-deny/10-post-attest.request.txt"),
        ] {
            let recorded = body(recording).trim_end();
            let value: Value = serde_json::from_str(recorded).unwrap();
            let runtime = &value["runtime-data"];
            let coordinate = |name: &str| runtime["tee-pubkey"][name].as_str().unwrap();
            let attestation = Attestation {
                nonce: &Nonce::parse(runtime["nonce"].as_str().unwrap()).unwrap(),
                key: &PublicJwk::from_coordinates(coordinate("x"), coordinate("y")),
                primary: &value["tee-evidence"]["primary_evidence"],
                additional: "",
                init_data: None,
            };
            assert_eq!(attestation.body(Version::V0_4_0), recorded);
        }
    }

    #[test]
    fn an_attestation_with_a_tpm_means_what_the_recorded_one_means() {
        // That client wrote spaces and omitted the empty init-data.
        let recording = include_str!("../../../tests/data/kbs/tpm-affirming/02-post-attest.request.txt");
        let mut value: Value = serde_json::from_str(body(recording)).unwrap();
        let runtime = value["runtime-data"].clone();
        let coordinate = |name: &str| runtime["tee-pubkey"][name].as_str().unwrap();
        let attestation = Attestation {
            nonce: &Nonce::parse(runtime["nonce"].as_str().unwrap()).unwrap(),
            key: &PublicJwk::from_coordinates(coordinate("x"), coordinate("y")),
            primary: &value["tee-evidence"]["primary_evidence"].clone(),
            additional: "",
            init_data: None,
        };
        value["init-data"] = Value::Null;
        let ours: Value = serde_json::from_str(&attestation.body(Version::V0_4_0)).unwrap();
        assert_eq!(ours, value);
        let old: Value = serde_json::from_str(&attestation.body(Version::V0_2_0)).unwrap();
        let evidence = &value["tee-evidence"]["primary_evidence"];
        assert_eq!(old, json!({"tee-pubkey": runtime["tee-pubkey"], "tee-evidence": evidence}));
    }

    #[test]
    fn the_answer_to_an_attestation_carries_a_token() {
        for recording in [
            include_str!("../../../tests/data/kbs/sample-affirming/05-post-attest.response.txt"),
            include_str!("../../../tests/data/kbs/tpm-affirming/02-post-attest.response.txt"),
            include_str!("../../../tests/data/kbs/policy-deny/10-post-attest.response.txt"),
        ] {
            assert_eq!(check_token(body(recording).as_bytes()), Ok(()));
        }
        for other in [&b"{}"[..], br#"{"token":""}"#, br#"{"token":null}"#, b"[]", b"<html>"] {
            assert!(check_token(other).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let _ = check_token(&bytes);
        }
    }
}
