//! Evidence of a machine's state, judged by tpm2-tools and by a key broker; and the command that shows it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use sha2::{Digest, Sha384};

use crate::support::encoding::{base64, from_base64, hex};
use crate::support::executable::{Run, option, run};
use crate::support::kbs::{Kbs, Pki, dead_url, double};
use crate::support::swtpm::Swtpm;
use crate::support::tool::succeed;
use crate::support::tools::attestation_key;

#[test]
fn the_broker_of_these_tests_proves_itself_on_recorded_traffic() {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kbs");
    let said = String::from_utf8(succeed(double("self-test").arg(recordings))).unwrap();
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 24, "{said}");
}

#[test]
fn the_attestation_key_is_the_one_that_tpm2_tools_derive_and_survives_reboot_and_clear() {
    let mut swtpm = Swtpm::new();
    let key = show_key(&swtpm);
    swtpm.tool(CREATE_AK);
    swtpm.tool("tpm2_readpublic -c ak.ctx -f pem -o ak.pem");
    swtpm.tool("tpm2_readpublic -c ak.ctx -f der -o ak.der");
    assert_eq!(key["pem"], *std::fs::read_to_string(swtpm.file("ak.pem")).unwrap());
    assert_eq!(key["ak_public"], *base64(&std::fs::read(swtpm.file("ak.der")).unwrap()));
    swtpm.tool("tpm2_flushcontext -t");
    swtpm.reboot();
    assert_eq!(show_key(&swtpm), key);
    swtpm.tool("tpm2_clear");
    assert_eq!(show_key(&swtpm), key, "the endorsement seed outlives TPM2_Clear");
    swtpm.holds_nothing();
    assert_ne!(show_key(&Swtpm::new()), key);
}

#[test]
fn shown_evidence_is_a_quote_that_tpm2_tools_verify() {
    let swtpm = Swtpm::new();
    swtpm.extend(11, "a kernel");
    let shown = attest(&swtpm, &[]).json();
    swtpm.holds_nothing();
    let quote = &shown["evidence"]["tpm_quote"];
    for (name, value) in [("message", &quote["message"]), ("signature", &quote["signature"])] {
        std::fs::write(swtpm.file(name), from_base64(value.as_str().unwrap())).unwrap();
    }
    std::fs::write(swtpm.file("ak.pem"), attestation_key(&swtpm).pem).unwrap();
    let nonce = &shown["report_data"].as_str().unwrap()[..64];
    let check = |nonce: &str| {
        swtpm
            .tool_succeeds(&format!("tpm2_checkquote -u ak.pem -m message -s signature -g sha256 -q {nonce}"))
    };
    assert!(check(nonce) && !check(&"0".repeat(64)));
    let pcrs = quote["pcrs"].as_array().unwrap();
    assert!((0..24).zip(pcrs).all(|(number, value)| *value == *swtpm.pcr(number)) && pcrs.len() == 24);
    let text = run(&["attest", &option(&swtpm)]).stdout;
    assert!(text.contains(&format!("PCR 11: {}", swtpm.pcr(11))), "{text}");
}

#[test]
fn evidence_costs_eight_commands_at_most() {
    let swtpm = Swtpm::new();
    let before = swtpm.commands().len();
    assert_eq!(attest(&swtpm, &[]).code, 0);
    // TPM2_CreatePrimary, Quote, FlushContext, and PCR_Read for each eight PCRs.
    let sent = swtpm.commands().len() - before;
    assert!(sent <= 8, "{sent}");
}

#[test]
fn an_endorsement_hierarchy_with_a_password_is_named() {
    let swtpm = Swtpm::new();
    swtpm.tool("tpm2_changeauth -c endorsement secret");
    let refused = attest(&swtpm, &[]);
    assert_eq!(refused.code, 77, "{}", refused.stderr);
    assert!(refused.stderr.contains("[tpm-endorsement-auth]"), "{}", refused.stderr);
    swtpm.holds_nothing();
}

#[test]
fn a_broker_refuses_another_selection_and_a_replayed_nonce() {
    let swtpm = Swtpm::new();
    let nonces = [[1; 32], [2; 32]].map(|bytes| base64(&bytes));
    // With tpm2-tools. The control is accepted, so the refusals are for the stated reasons.
    let all = "sha256:all";
    assert_eq!(judged(&nonces[0], &quoted(&swtpm, &nonces[0], all))["accepted"], true);
    let fewer = judged(&nonces[0], &quoted(&swtpm, &nonces[0], "sha256:0,1,2,3,4,5,6,7,8,9,10,11"));
    assert_eq!(fewer, json!({"accepted": false, "why": "selection of the quote"}));
    let two_banks = judged(&nonces[0], &quoted(&swtpm, &nonces[0], "sha256:all+sha1:0"));
    assert_eq!(two_banks, json!({"accepted": false, "why": "selection of the quote"}));
    let replayed = judged(&nonces[1], &quoted(&swtpm, &nonces[0], all));
    assert_eq!(replayed, json!({"accepted": false, "why": "nonce of another session"}));
    let mut renamed = quoted(&swtpm, &nonces[0], all);
    renamed["runtime-data"]["nonce"] = json!(nonces[1]);
    let said = judged(&nonces[1], &renamed);
    assert!(said["why"].as_str().unwrap().contains("nonce"), "{said}");
}

#[test]
fn a_rehearsal_fetches_no_key_and_says_who_accepts_the_evidence() {
    let (swtpm, pki) = (Swtpm::new(), Pki::new());
    let broker = Kbs::new(&pki, &json!({"registered_aks": [attestation_key(&swtpm).ak_public]}));
    let config = config(&swtpm, &json!({"url": broker.url(), "ca": pki.pem("ca")}));
    let accepted = attest(&swtpm, &["--connect", &config]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    let json = accepted.json();
    assert_eq!((&json["server"], &json["protocol"]), (&json!(broker.url()), &json!("0.4.0")));
    assert!(json["pin"].as_str().unwrap().starts_with("ca sha256:"));
    assert_eq!((broker.count("/kbs/v0/attest"), broker.log().len()), (1, 2), "no resource was asked for");
    swtpm.holds_nothing();
}

#[test]
fn a_rehearsal_that_fails_says_why_by_name_and_exit_code() {
    let (swtpm, pki) = (Swtpm::new(), Pki::new());
    let broker = Kbs::new(&pki, &json!({}));
    let other = json!({"url": broker.url(), "ca": pki.pem("other")});
    let dead = json!({"url": dead_url(), "ca": pki.pem("ca")});
    let unknown = Kbs::new(&pki, &json!({"tees": []}));
    let unknown = json!({"url": unknown.url(), "ca": pki.pem("ca")});
    for (server, slug, code) in
        [(&other, "kbs-certificate", 65), (&dead, "kbs-unreachable", 69), (&unknown, "kbs-platform", 77)]
    {
        let refused = attest(&swtpm, &["--connect", &config(&swtpm, server)]);
        assert!(refused.stderr.contains(&format!("[{slug}]")), "{}", refused.stderr);
        assert_eq!(refused.code, code, "{}", refused.stderr);
    }
    let unconfigured = attest(&swtpm, &["--connect"]);
    assert!(unconfigured.code == 78 && unconfigured.stderr.contains("[kbs-not-configured]"));
}

#[test]
#[cfg(not(feature = "test-double"))]
fn a_release_speaks_no_plain_http_and_has_no_evidence_that_proves_nothing() {
    let swtpm = Swtpm::new();
    let server = json!({"url": "https://kbs.example", "spki": "00".repeat(32)});
    let check = |kbs: Value| {
        std::fs::write(swtpm.file("kbs.json"), json!({"kbs": kbs}).to_string()).unwrap();
        run(&["config", "check", &format!("--config={}", swtpm.file("kbs.json").display())])
    };
    assert_eq!(check(json!({"servers": [server], "resource": "a/b/c"})).code, 0);
    let plain = json!({"url": "http://kbs.example", "spki": "00".repeat(32)});
    for kbs in [
        json!({"servers": [plain], "resource": "a/b/c"}),
        json!({"servers": [{"url": "http://kbs.example"}], "resource": "a/b/c"}),
        json!({"servers": [server], "resource": "a/b/c", "evidence": "sample"}),
    ] {
        let refused = check(kbs);
        assert!(refused.code == 78 && refused.stderr.contains("[config-invalid]"), "{}", refused.stderr);
    }
    let manifest = include_str!("../../Cargo.toml");
    assert!(manifest.contains("\ndefault = [\"native\"]\n") && manifest.contains("\ntest-double = []\n"));
}

fn attest(swtpm: &Swtpm, options: &[&str]) -> Run {
    run(&[&["attest", "--json", &option(swtpm)], options].concat())
}

fn show_key(swtpm: &Swtpm) -> Value {
    attest(swtpm, &["--show-ak"]).json()
}

/// `--config=` with this key broker and a short deadline.
fn config(swtpm: &Swtpm, server: &Value) -> String {
    let kbs = json!({"servers": [server], "resource": "a/b/c", "deadline_seconds": 20});
    std::fs::write(swtpm.file("config.json"), json!({"kbs": kbs}).to_string()).unwrap();
    format!("--config={}", swtpm.file("config.json").display())
}

/// An attestation whose evidence tpm2-tools made over a selection of PCRs.
fn quoted(swtpm: &Swtpm, nonce: &str, selection: &str) -> Value {
    let recording = include_str!("../data/kbs/tpm-affirming/02-post-attest.request.txt");
    let mut attestation: Value = serde_json::from_str(
        recording.split_once("\n\n").or_else(|| recording.split_once("\r\n\r\n")).unwrap().1,
    )
    .unwrap();
    attestation["runtime-data"]["nonce"] = json!(nonce);
    let key = &attestation["runtime-data"]["tee-pubkey"];
    let member = |name: &str| key[name].as_str().unwrap();
    let canonical = format!(
        r#"{{"additional-evidence":"","nonce":"{nonce}","tee-pubkey":{{"alg":"{}","crv":"{}","kty":"{}","x":"{}","y":"{}"}}}}"#,
        member("alg"),
        member("crv"),
        member("kty"),
        member("x"),
        member("y")
    );
    let data = hex(&Sha384::digest(canonical)[..32]);
    swtpm.tool(CREATE_AK);
    swtpm.tool(&format!(
        "tpm2_quote -c ak.ctx -l {selection} -q {data} -g sha256 -m quote.msg -s quote.sig -f tss"
    ));
    swtpm.tool("tpm2_readpublic -c ak.ctx -f der -o ak.der");
    swtpm.tool("tpm2_flushcontext -t");
    let file = |name: &str| base64(&std::fs::read(swtpm.file(name)).unwrap());
    let pcrs: Vec<String> = (0..24).map(|number| swtpm.pcr(number)).collect();
    attestation["tee-evidence"]["primary_evidence"] = json!({
        "tpm_quote": {"signature": file("quote.sig"), "message": file("quote.msg"), "pcrs": pcrs},
        "ak_public": file("ak.der")
    });
    attestation
}

/// The key broker's verdict on an attestation.
fn judged(nonce: &str, attestation: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let mut judge = double("judge")
        .arg(folder.path().join("config.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let given = json!({"nonce": nonce, "attestation": attestation}).to_string();
    judge.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    serde_json::from_slice(&judge.wait_with_output().unwrap().stdout).unwrap()
}

/// The template of our attestation key, in tpm2-tools' words.
const CREATE_AK: &str = "tpm2_createprimary -C e -G rsa2048:rsassa-sha256:null -g sha256 -c ak.ctx \
                         -a restricted|sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda";
