//! Tests the handshake against recorded and invented answers.

use std::collections::VecDeque;

use super::*;
use crate::attest::evidence::{Evidence, EvidenceError};
use crate::attest::fault::NextServer;
use crate::attest::http::HttpError;
use crate::attest::protocol::{Tee, body};
use crate::base::error::Failure;
use serde_json::json;

const CHALLENGE: &str = include_str!("../../../tests/data/kbs/tpm-affirming/01-post-auth.response.txt");
const TOKEN: &str = include_str!("../../../tests/data/kbs/tpm-affirming/02-post-attest.response.txt");
const ENVELOPE: &str =
    include_str!("../../../tests/data/kbs/tpm-affirming/03-get-resource_default_disk_root.response.txt");
const DENY: &str =
    include_str!("../../../tests/data/kbs/policy-deny/11-get-resource_default_disk_root2.response.txt");
const NO_SESSION: &str =
    include_str!("../../../tests/data/kbs/sample-affirming/03-get-resource_default_disk_root2.response.txt");

/// Returns prepared answers and records what was sent.
struct Script {
    answers: VecDeque<Answer>,
    sent: Vec<(String, Option<Value>, Option<String>)>,
}

impl Script {
    fn new<'a>(answers: impl IntoIterator<Item = &'a str>) -> Self {
        Self { answers: answers.into_iter().map(recorded).collect(), sent: Vec::new() }
    }
}

impl Http for Script {
    fn send(&mut self, call: &Call<'_>) -> Result<Answer, HttpError> {
        let body = call.body.as_deref().map(|body| serde_json::from_str(body).unwrap());
        self.sent.push((call.path.clone(), body, call.cookie.map(SessionCookie::header)));
        Ok(self.answers.pop_front().expect("one call more than the script has"))
    }
}

/// Status, cookies and body of a recorded answer.
fn recorded(text: &str) -> Answer {
    let status = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    let cookies =
        text.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).map(str::to_owned).collect();
    Answer { status, cookies, body: body(text).trim_end().as_bytes().to_vec() }
}

fn refusal(kind: &str, detail: &str) -> String {
    let error = json!({"type": format!("https://github.com/confidential-containers/kbs/errors/{kind}"), "detail": detail});
    format!("HTTP/1.1 401 Unauthorized\n\n{error}")
}

fn mismatch(expected: &str) -> String {
    refusal(
        "AttestationError",
        &format!("KBS Client Protocol Version Mismatch: expect ={expected} while the request is 0"),
    )
}

/// Evidence that is just the report data.
struct Plain(Tee);

impl Evidence for Plain {
    fn tee(&self) -> Tee {
        self.0
    }

    fn collect(&mut self, report_data: &ReportData) -> Result<Value, EvidenceError> {
        Ok(json!({"report_data": crate::base::hex::encode(report_data.field())}))
    }
}

fn attester(tee: Tee) -> Attester<'static> {
    Attester::new(Plain(tee))
}

fn run(script: &mut Script, attester: &mut Attester<'_>) -> Result<Secret, Fault> {
    let attested = Challenged::ask(script, attester)?.attest(script, attester)?;
    attested.fetch(script, &ResourcePath::parse("default/disk/root").unwrap())
}

#[track_caller]
fn refused(answers: &[&str], slug: &str) -> Script {
    let mut script = Script::new(answers.iter().copied());
    let fault = run(&mut script, &mut attester(Tee::Tpm)).err().expect("a fault");
    assert_eq!(fault.slug(), slug, "{fault}");
    script
}

#[test]
fn three_calls_in_one_session_are_a_handshake() {
    // The recorded envelope is encrypted to the recorded key, so ours does not open it.
    let script = refused(&[CHALLENGE, TOKEN, ENVELOPE], "kbs-envelope");
    let paths: Vec<_> = script.sent.iter().map(|(path, _, _)| path.as_str()).collect();
    assert_eq!(paths, ["/kbs/v0/auth", "/kbs/v0/attest", "/kbs/v0/resource/default/disk/root"]);
    let cookie = Some("kbs-session-id=59beb6ea65614e1587b0ae758ebb5d89".to_owned());
    let cookies: Vec<_> = script.sent.iter().map(|(_, _, cookie)| cookie.clone()).collect();
    assert_eq!(cookies, [None, cookie.clone(), cookie]);
}

#[test]
fn evidence_is_bound_to_the_nonce_and_the_key_that_are_sent() {
    let script = refused(&[CHALLENGE, TOKEN, DENY], "kbs-denied");
    let sent = script.sent[1].1.clone().unwrap();
    let runtime = &sent["runtime-data"];
    assert_eq!(runtime["nonce"], "Seb6uXp+l48Qc9Egv4cl5ANvd7keys71NgUVIX6ea/c=");
    let coordinate = |name: &str| runtime["tee-pubkey"][name].as_str().unwrap();
    let key = crate::attest::protocol::PublicJwk::from_coordinates(coordinate("x"), coordinate("y"));
    let nonce = Challenge::parse(body(CHALLENGE).as_bytes()).unwrap().nonce;
    let expected = crate::base::hex::encode(ReportData::primary(&nonce, &key, "").field());
    assert_eq!(sent["tee-evidence"]["primary_evidence"]["report_data"], *expected);
    assert_eq!(sent["init-data"], Value::Null);
}

#[test]
fn evidence_of_other_devices_is_hashed_into_the_primarys_report_data() {
    let mut attester = attester(Tee::Snp);
    attester.additional.push(Box::new(Plain(Tee::Tpm)));
    attester.init_data = Some("version = \"0.1.0\"");
    let mut script = Script::new([CHALLENGE, TOKEN, DENY]);
    assert!(run(&mut script, &mut attester).is_err());
    let sent = script.sent[1].1.clone().unwrap();
    let additional = sent["tee-evidence"]["additional_evidence"].as_str().unwrap();
    let devices: Value = serde_json::from_str(additional).unwrap();
    assert!(devices["tpm"]["report_data"].is_string());
    let runtime = &sent["runtime-data"]["tee-pubkey"];
    let key = crate::attest::protocol::PublicJwk::from_coordinates(
        runtime["x"].as_str().unwrap(),
        runtime["y"].as_str().unwrap(),
    );
    let nonce = Challenge::parse(body(CHALLENGE).as_bytes()).unwrap().nonce;
    let primary = crate::base::hex::encode(ReportData::primary(&nonce, &key, additional).field());
    assert_eq!(sent["tee-evidence"]["primary_evidence"]["report_data"], *primary);
    assert_eq!(
        devices["tpm"]["report_data"],
        *crate::base::hex::encode(ReportData::alone(&nonce, &key).field())
    );
    assert_eq!(sent["init-data"], json!({"format": "toml", "body": "version = \"0.1.0\""}));
}

#[test]
fn a_denial_is_not_asked_for_again() {
    let script = refused(&[CHALLENGE, TOKEN, DENY], "kbs-denied");
    assert_eq!(script.sent.len(), 3);
    let script = refused(
        &[CHALLENGE, &refusal("AttestationError", "RCAR handshake Attest failed")],
        "kbs-evidence-refused",
    );
    assert_eq!(script.sent.len(), 2);
}

#[test]
fn an_older_server_is_spoken_to_in_its_own_version() {
    let script = refused(&[&mismatch("0.2.0"), CHALLENGE, TOKEN, DENY], "kbs-denied");
    let versions: Vec<_> =
        script.sent[..2].iter().map(|(_, body, _)| body.clone().unwrap()["version"].clone()).collect();
    assert_eq!(versions, ["0.4.0", "0.2.0"]);
    let attestation = script.sent[2].1.clone().unwrap();
    let mut members: Vec<_> = attestation.as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["tee-evidence", "tee-pubkey"]);
}

#[test]
fn a_server_of_0_1_is_too_old_and_one_that_keeps_changing_its_mind_is_left() {
    refused(&[&mismatch("0.1.1")], "kbs-too-old");
    refused(&[&mismatch("0.5.0")], "kbs-version");
    refused(&[&mismatch("0.2.0"), &mismatch("0.4.0"), &mismatch("0.2.0")], "kbs-no-challenge");
    refused(&[&mismatch("0.4.0")], "kbs-no-challenge");
}

#[test]
fn a_server_that_is_starting_up_is_not_one_that_does_not_know_the_platform() {
    let starting = refusal("AttestationError", "RCAR handshake Auth failed: generate challenge failed");
    for answers in [&[starting.as_str()][..], &[&mismatch("0.2.0"), &starting]] {
        let mut script = Script::new(answers.iter().copied());
        let fault = run(&mut script, &mut attester(Tee::AzureSnp)).err().unwrap();
        assert_eq!((fault.slug(), fault.next()), ("kbs-no-challenge", NextServer::Retry), "{fault}");
        assert_eq!(script.sent.len(), answers.len(), "the other name was not tried");
    }
}

#[test]
fn evidence_is_prepared_before_the_challenge_is_asked_for() {
    struct Slow<'a>(&'a std::cell::Cell<u32>);
    impl Evidence for Slow<'_> {
        fn tee(&self) -> Tee {
            Tee::Tpm
        }
        fn prepare(&mut self) -> Result<(), EvidenceError> {
            self.0.set(self.0.get() + 1);
            Err(EvidenceError::Tpm(crate::tpm::TpmError::PcrChanged))
        }
        fn collect(&mut self, _report_data: &ReportData) -> Result<Value, EvidenceError> {
            panic!("there was no challenge")
        }
    }
    let prepared = std::cell::Cell::new(0);
    // The evidence of other devices, too.
    let mut attester = attester(Tee::Snp);
    attester.additional.push(Box::new(Slow(&prepared)));
    let mut script = Script::new([CHALLENGE]);
    let fault = run(&mut script, &mut attester).err().unwrap();
    assert_eq!((fault.next(), prepared.get(), script.sent.len()), (NextServer::GiveUp, 1, 0), "{fault}");
}

#[test]
fn azures_older_name_is_tried_where_the_newer_is_not_known() {
    let unknown = refusal("AttestationError", "RCAR handshake Auth failed: deserialize Request");
    let mut script = Script::new([unknown.as_str(), CHALLENGE, TOKEN, DENY]);
    assert_eq!(run(&mut script, &mut attester(Tee::AzureSnp)).err().unwrap().slug(), "kbs-denied");
    let names: Vec<_> =
        script.sent[..2].iter().map(|(_, body, _)| body.clone().unwrap()["tee"].clone()).collect();
    assert_eq!(names, ["az-snp-vtpm", "azsnpvtpm"]);
    refused(&[&unknown], "kbs-platform");
}

#[test]
fn the_type_of_an_error_decides_and_not_its_status() {
    refused(
        &[CHALLENGE, TOKEN, &refusal("PluginInternalError", "Plugin resource internal error")],
        "kbs-resource-missing",
    );
    refused(&[CHALLENGE, TOKEN, NO_SESSION], "kbs-refused");
    refused(&["HTTP/1.1 401 Unauthorized\n\n<html>"], "kbs-not-a-key-broker");
    refused(&["HTTP/1.1 503 Service Unavailable\n\n"], "kbs-trouble");
    refused(&["HTTP/1.1 204 No Content\n\n"], "kbs-not-a-key-broker");
}

#[test]
fn answers_that_make_no_sense_are_refused_at_each_step() {
    refused(&["HTTP/1.1 200 OK\nset-cookie: kbs-session-id=a\n\n{}"], "kbs-answer");
    refused(&[&format!("HTTP/1.1 200 OK\n\n{}", body(CHALLENGE))], "kbs-answer");
    refused(&[CHALLENGE, "HTTP/1.1 200 OK\n\n{}"], "kbs-answer");
    refused(&[CHALLENGE, TOKEN, "HTTP/1.1 200 OK\n\n{\"protected\":\"\"}"], "kbs-answer");
}
