//! The handshake with one key broker: challenge, evidence, key. Each step consumes the one before, so that
//! none can be left out. Each is tried once, because repeating it does not change a refusal.

use serde_json::{Map, Value};

use super::evidence::Attester;
use super::fault::{Exchange, Fault};
use super::http::{Answer, Call, Http};
use super::protocol::messages;
use super::protocol::messages::Attestation;
use super::protocol::version::Expected;
use super::protocol::{
    Challenge, Envelope, Kind, PREFIX, ProtocolError, ReportData, ResourcePath, ServerRefusal, SessionCookie,
    TeeKey, Version,
};
use crate::base::secret::Secret;

/// A key broker that has challenged us.
#[derive(Debug)]
pub(super) struct Challenged {
    version: Version,
    challenge: Challenge,
    cookie: SessionCookie,
}

/// A key broker that has accepted our evidence.
pub(super) struct Attested {
    /// The protocol version in use.
    pub(super) version: Version,
    cookie: SessionCookie,
    key: TeeKey,
}

impl Challenged {
    /// Requests a challenge: first with the newest version and the platform's newest name, then as the key
    /// broker demands. Prepares the evidence before, because the key broker's session starts with the
    /// challenge.
    pub(super) fn ask(http: &mut dyn Http, attester: &mut Attester<'_>) -> Result<Self, Fault> {
        let step = Exchange::Challenge;
        attester.prepare().map_err(Fault::Evidence)?;
        let mut version = Version::V0_4_0;
        let mut names = attester.tee().names(version).iter();
        let mut name = names.next().copied().unwrap_or_default();
        // At most one change of version and one of the name.
        for _ in 0..3 {
            let call = Call {
                path: format!("{PREFIX}/auth"),
                body: Some(messages::request(version, name)),
                cookie: None,
                limit: CHALLENGE_LIMIT,
            };
            let answer = http.send(&call).map_err(|source| Fault::Http { step, source })?;
            let refusal = match accepted(step, &answer)? {
                Ok(()) => {
                    let challenge =
                        Challenge::parse(&answer.body).map_err(|source| Fault::Answer { step, source })?;
                    let cookie = SessionCookie::find(answer.cookies.iter().map(String::as_str))
                        .ok_or(Fault::Answer { step, source: ProtocolError::NoSession })?;
                    return Ok(Self { version, challenge, cookie });
                }
                Err(refusal) if refusal.kind == Kind::Attestation => refusal,
                Err(refusal) => return Err(other(step, refusal)),
            };
            match Expected::read(&refusal.detail) {
                Some(Expected::Spoken(expected)) if expected != version => {
                    version = expected;
                    names = attester.tee().names(version).iter();
                }
                Some(Expected::TooOld(number)) => return Err(Fault::TooOld(number)),
                Some(Expected::Unknown(number)) => return Err(Fault::Version(number)),
                // It is not the version; perhaps it is the name.
                None if refusal.detail.contains(UNREADABLE) => {}
                Some(Expected::Spoken(_)) | None => {
                    return Err(Fault::NoChallenge { detail: refusal.detail });
                }
            }
            name = names.next().copied().ok_or_else(|| Fault::Platform {
                tee: attester.tee().name(),
                detail: refusal.detail.clone(),
            })?;
        }
        Err(Fault::NoChallenge { detail: "it accepts neither of two versions".to_owned() })
    }

    /// Collects evidence and submits it.
    pub(super) fn attest(self, http: &mut dyn Http, attester: &mut Attester<'_>) -> Result<Attested, Fault> {
        let step = Exchange::Attest;
        let key = TeeKey::generate().ok_or(Fault::Random)?;
        let nonce = &self.challenge.nonce;
        let (additional, report_data) = match self.version {
            Version::V0_4_0 => {
                let additional = additional_evidence(attester, &ReportData::alone(nonce, key.public()))?;
                let report_data = ReportData::primary(nonce, key.public(), &additional);
                (additional, report_data)
            }
            // There is only one kind of evidence, and it is bound to less.
            Version::V0_2_0 => (String::new(), ReportData::alone(nonce, key.public())),
        };
        let primary = attester.primary.collect(&report_data).map_err(Fault::Evidence)?;
        let attestation = Attestation {
            nonce,
            key: key.public(),
            primary: &primary,
            additional: &additional,
            init_data: attester.init_data,
        };
        let call = Call {
            path: format!("{PREFIX}/attest"),
            body: Some(attestation.body(self.version)),
            cookie: Some(&self.cookie),
            limit: TOKEN_LIMIT,
        };
        let answer = http.send(&call).map_err(|source| Fault::Http { step, source })?;
        match accepted(step, &answer)? {
            Ok(()) => {}
            Err(ServerRefusal { kind: Kind::Attestation, detail }) => {
                return Err(Fault::EvidenceRefused { detail });
            }
            Err(ServerRefusal { kind: Kind::PolicyDeny, detail }) => return Err(Fault::Denied { detail }),
            Err(refusal) => return Err(other(step, refusal)),
        }
        messages::check_token(&answer.body).map_err(|source| Fault::Answer { step, source })?;
        Ok(Attested { version: self.version, cookie: self.cookie, key })
    }
}

impl Attested {
    /// Fetches one resource. The session's key is used once.
    pub(super) fn fetch(self, http: &mut dyn Http, path: &ResourcePath) -> Result<Secret, Fault> {
        let step = Exchange::Fetch;
        let call = Call {
            path: format!("{PREFIX}/resource/{path}"),
            body: None,
            cookie: Some(&self.cookie),
            limit: RESOURCE_LIMIT,
        };
        let answer = http.send(&call).map_err(|source| Fault::Http { step, source })?;
        match accepted(step, &answer)? {
            Ok(()) => {}
            Err(ServerRefusal { kind: Kind::PolicyDeny, detail }) => return Err(Fault::Denied { detail }),
            Err(ServerRefusal { kind: Kind::Resource, detail }) => {
                return Err(Fault::Missing { path: path.to_string(), detail });
            }
            Err(refusal) => return Err(other(step, refusal)),
        }
        let secret = Envelope::parse(&answer.body)
            .and_then(|envelope| envelope.open(self.key))
            .map_err(|source| Fault::Answer { step, source })?;
        if secret.is_empty() { Err(Fault::Empty { path: path.to_string() }) } else { Ok(secret) }
    }
}

/// The evidence of other devices as one text, hashed into the primary's report data and sent in the same
/// form.
fn additional_evidence(attester: &mut Attester<'_>, report_data: &ReportData) -> Result<String, Fault> {
    let mut devices = Map::new();
    for evidence in &mut attester.additional {
        let collected = evidence.collect(report_data).map_err(Fault::Evidence)?;
        devices.insert(evidence.tee().name().to_owned(), collected);
    }
    Ok(if devices.is_empty() { String::new() } else { Value::Object(devices).to_string() })
}

/// Whether the answer is a success, or a refusal with an explanation.
fn accepted(step: Exchange, answer: &Answer) -> Result<Result<(), ServerRefusal>, Fault> {
    match (answer.status, ServerRefusal::parse(&answer.body)) {
        (200, _) => Ok(Ok(())),
        (_, Some(refusal)) => Ok(Err(refusal)),
        // 408 and 429 come from proxies and are temporary.
        (status @ (408 | 429 | 500..=599), None) => Err(Fault::Trouble { step, status }),
        (status, None) => Err(Fault::NotAKeyBroker { step, status }),
    }
}

fn other(step: Exchange, refusal: ServerRefusal) -> Fault {
    let kind = match refusal.kind {
        Kind::PolicyDeny => "PolicyDeny".to_owned(),
        Kind::Attestation => "AttestationError".to_owned(),
        Kind::NoSession => "TokenNotFound".to_owned(),
        Kind::Resource => "PluginInternalError".to_owned(),
        Kind::Other(name) => name,
    };
    Fault::Refused { step, kind, detail: refusal.detail }
}

/// In the detail of a refusal by a key broker that does not know the platform's name (Trustee,
/// `kbs/src/attestation/backend.rs`).
const UNREADABLE: &str = "deserialize Request";
/// Bytes. A challenge has about 80; for `se`, which we do not support, 10 KiB.
const CHALLENGE_LIMIT: u64 = 16 << 10;
/// Bytes. A token carries all claims about the platform: 5 KiB for a TPM, a few hundred for composite
/// evidence.
const TOKEN_LIMIT: u64 = 1 << 20;
/// Bytes. An encrypted key in base64.
const RESOURCE_LIMIT: u64 = 64 << 10;

#[cfg(test)]
mod tests;
