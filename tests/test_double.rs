//! What a build with the feature `test-double` adds, to test machines without a TPM: evidence that proves
//! nothing, over plain HTTP. `tests/attest/evidence.rs` checks that a release has neither.
#![cfg(test)]

mod support;

use cvm_unlock::attest::evidence::sample::SampleEvidence;
use cvm_unlock::attest::{Attester, ResourcePath, Settings, fetch_key};
use cvm_unlock::base::error::{Failure, chain};
use cvm_unlock::config::Config;
use serde_json::{Value, json};
use support::executable::run;
use support::kbs::Kbs;

const PATH: &str = "default/disk/root";
const SECRET: &[u8] = b"passphrase";

fn broker(change: impl FnOnce(&mut Value)) -> Kbs {
    let mut config = json!({"tees": ["sample"], "resources": {PATH: "cGFzc3BocmFzZQ=="}});
    change(&mut config);
    Kbs::plain(&config)
}

fn kbs(broker: &Kbs) -> Value {
    json!({"servers": [{"url": broker.url()}], "resource": PATH, "evidence": "sample", "deadline_seconds": 20})
}

#[test]
fn sample_evidence_gets_a_key_over_plain_http_in_each_version_of_the_protocol() {
    for version in ["0.4.0", "0.2.0"] {
        let broker = broker(|config| config["version"] = json!(version));
        let settings: Settings = serde_json::from_value(kbs(&broker)).unwrap();
        let path = ResourcePath::parse(PATH).unwrap();
        let key = fetch_key(&settings, &mut Attester::new(SampleEvidence), &path, settings.until());
        let key = key.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(key.secret.expose(), SECRET);
        let provenance = serde_json::to_value(&key.provenance).unwrap();
        let expected = json!({"server": broker.url(), "pin": "nothing", "protocol": version, "tee": "sample", "resource": PATH});
        assert_eq!(provenance, expected);
    }
}

#[test]
fn the_broker_denies_as_it_does_to_other_evidence() {
    let broker = broker(|config| config["registered_aks"] = json!([]));
    let settings: Settings = serde_json::from_value(kbs(&broker)).unwrap();
    let path = ResourcePath::parse(PATH).unwrap();
    let denied = fetch_key(&settings, &mut Attester::new(SampleEvidence), &path, settings.until())
        .err()
        .expect("a denial");
    assert_eq!(denied.slug(), "kbs-denied");
}

#[test]
fn the_executable_attests_so_where_there_is_no_tpm() {
    let broker = broker(|_| ());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, json!({"kbs": kbs(&broker)}).to_string()).unwrap();
    let config = format!("--config={}", file.display());
    let accepted = run(&["attest", "--connect", "--json", "--tpm2-device=/nonexistent", &config]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert_eq!((&accepted.json()["tee"], &accepted.json()["pin"]), (&json!("sample"), &json!("nothing")));
    // The same file asks for a TPM where it does not say `sample`.
    let mut tpm = kbs(&broker);
    tpm.as_object_mut().unwrap().remove("evidence");
    std::fs::write(&file, json!({"kbs": tpm}).to_string()).unwrap();
    let refused = run(&["attest", "--connect", "--tpm2-device=/nonexistent", &config]);
    assert!(refused.code == 69 && refused.stderr.contains("[tpm-absent]"), "{}", refused.stderr);
}

#[test]
fn a_server_behind_tls_has_to_be_pinned_even_here() {
    for (server, valid) in [
        (json!({"url": "https://kbs.example"}), false),
        (json!({"url": "http://kbs.example"}), true),
        (json!({"url": "https://kbs.example", "spki": "00".repeat(32)}), true),
    ] {
        let settings = json!({"servers": [server], "resource": PATH, "evidence": "sample"});
        assert_eq!(serde_json::from_value::<Settings>(settings).is_ok(), valid, "{server}");
    }
}

#[test]
fn init_data_is_allowed_beside_evidence_that_may_carry_its_digest() {
    let config = |evidence: &str| {
        let kbs = json!({"servers": [{"url": "http://kbs.example"}], "resource": PATH, "evidence": evidence,
                         "init_data": "version = \"0.1.0\""});
        Config::parse(json!({"kbs": kbs}).to_string().as_bytes())
    };
    assert!(config("sample").is_ok() && config("tpm").is_err());
}
