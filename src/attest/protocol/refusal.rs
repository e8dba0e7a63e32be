//! Parses a key broker's refusal. The `type` decides, never the status: Trustee answers 401 to almost
//! everything.

use super::error::excerpt;
use super::object::Object;

/// A refusal with an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRefusal {
    /// What is refused.
    pub kind: Kind,
    /// The key broker's words, as far as they are printable.
    pub detail: String,
}

/// The last segment of the error's `type` (Trustee, `kbs/src/error.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `PolicyDeny`: the resource policy denies the resource for this evidence.
    PolicyDeny,
    /// `AttestationError`: the request or the evidence was not accepted.
    Attestation,
    /// `TokenNotFound`: there is no attested session.
    NoSession,
    /// `PluginInternalError` and similar: no such resource, or an invalid path.
    Resource,
    /// Any other.
    Other(String),
}

impl ServerRefusal {
    /// Parses an error's body; `None` if it is something else, such as a proxy's error page.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut object = Object::parse("The error", body).ok()?;
        let name = object.text("type").ok()?;
        let name = name.strip_prefix(TYPES)?;
        let detail = object.text("detail").unwrap_or_default();
        let kind = match name {
            "PolicyDeny" => Kind::PolicyDeny,
            "AttestationError" => Kind::Attestation,
            "TokenNotFound" => Kind::NoSession,
            "PluginInternalError" | "PluginNotFound" | "InvalidRequestPath" => Kind::Resource,
            other => Kind::Other(excerpt(other)),
        };
        Some(Self { kind, detail: excerpt_of_detail(&detail) })
    }
}

/// Long enough to keep a version mismatch at the end of a chain of causes.
fn excerpt_of_detail(detail: &str) -> String {
    detail.chars().take(512).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

const TYPES: &str = "https://github.com/confidential-containers/kbs/errors/";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn recorded_refusals_are_told_apart() {
        for (recording, kind) in [
            (
                include_str!(
                    "../../../tests/data/kbs/policy-deny/11-get-resource_default_disk_root2.response.txt"
                ),
                Kind::PolicyDeny,
            ),
            (
                include_str!(
                    "../../../tests/data/kbs/sample-affirming/03-get-resource_default_disk_root2.response.txt"
                ),
                Kind::NoSession,
            ),
        ] {
            let refusal = ServerRefusal::parse(super::super::body(recording).as_bytes()).unwrap();
            assert_eq!(refusal.kind, kind);
            assert!(!refusal.detail.is_empty());
        }
    }

    #[test]
    fn what_is_no_error_of_a_key_broker_explains_nothing() {
        for body in [&b"<html>"[..], b"", b"{}", br#"{"type":"about:blank","detail":"x"}"#, br#"{"type":1}"#]
        {
            assert_eq!(ServerRefusal::parse(body), None);
        }
        let other = format!(r#"{{"type":"{TYPES}New\u001b[1m"}}"#);
        assert_eq!(ServerRefusal::parse(other.as_bytes()).unwrap().kind, Kind::Other("New?[1m".into()));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ServerRefusal::parse(&body);
        }

        #[test]
        fn nothing_unprintable_reaches_a_log(detail in ".{0,700}") {
            let body = serde_json::json!({"type": format!("{TYPES}PolicyDeny"), "detail": detail}).to_string();
            if let Some(refusal) = ServerRefusal::parse(body.as_bytes()) {
                prop_assert!(refusal.detail.len() <= 512 && refusal.detail.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
        }
    }
}
