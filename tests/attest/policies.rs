//! Tests the policies in docs/trustee with Trustee's interpreter, its rule names and the claims of a real
//! token: what the owner registered is released; after any single change it is not.

use base64ct::{Base64UrlUnpadded, Encoding};
use regorus::{Engine, Value as Rego};
use serde_json::{Map, Value, json};

const ATTESTATION: &str = include_str!("../../docs/trustee/attestation-policy.rego");
const RESOURCE: &str = include_str!("../../docs/trustee/resource-policy.rego");
const TPM: &str = include_str!("../data/kbs/tpm-affirming/02-post-attest.response.txt");
const SAMPLE: &str = include_str!("../data/kbs/sample-affirming/05-post-attest.response.txt");

/// What Trustee's default resource policy amounts to, in the version of the recordings: everything but
/// `sample`.
const EVERYTHING_BUT_SAMPLE: &str = "package policy
import rego.v1
default allow := false
allow if {
    data.plugin == \"resource\"
    not pretended
}
pretended if {
    some device in input.submods
    device[\"ear.veraison.annotated-evidence\"].sample
}";

const EVIDENCE: &str = "ear.veraison.annotated-evidence";
const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const OTHER: &str = "7777777777777777777777777777777777777777777777777777777777777777";
const VOLUME: &str = "default/disk/5f0d1c5e-9c33-4bd0-8d6e-2b0f6d1f7a11";
const NEIGHBOUR: &str = "default/disk/a1c7b9de-4a58-4a29-9e0b-7cf1c1f0e7d2";
const NEIGHBOURS_AK: &str = "MIIBneighbour";

// Attestation policy

#[test]
fn a_registered_machine_in_its_initramfs_affirms() {
    let vector = appraise(&machine(), &registered());
    assert_eq!(Value::from(vector.clone()), json!({"hardware": 2, "executables": 3, "configuration": 2}));
    assert_eq!(status(&vector), "affirming");
}

#[test]
fn each_of_two_registered_images_affirms() {
    let mut two = registered();
    two["tpm_pcr11"].as_array_mut().unwrap().insert(0, OTHER.into());
    assert_eq!(status(&appraise(&machine(), &two)), "affirming");
    assert_eq!(status(&appraise(&with("pcr11", OTHER), &two)), "affirming");
}

#[test]
fn a_tpm_that_nobody_registered_does_not_affirm() {
    assert_eq!(status(&appraise(&with("ak_public", "MIIBemulated"), &registered())), "contraindicated");
}

#[test]
fn another_boot_loader_does_not_affirm() {
    assert_eq!(status(&appraise(&with("pcr04", OTHER), &registered())), "warning");
}

#[test]
fn other_secure_boot_keys_do_not_affirm() {
    assert_eq!(status(&appraise(&with("pcr07", OTHER), &registered())), "warning");
}

#[test]
fn another_uki_or_phase_of_the_boot_does_not_affirm() {
    assert_eq!(status(&appraise(&with("pcr11", OTHER), &registered())), "warning");
    assert_eq!(status(&appraise(&with("pcr11", ZERO), &registered())), "warning");
}

#[test]
fn an_add_on_or_a_credential_of_the_host_does_not_affirm() {
    assert_eq!(status(&appraise(&with("pcr12", OTHER), &registered())), "warning");
}

#[test]
fn a_system_extension_of_the_host_does_not_affirm() {
    assert_eq!(status(&appraise(&with("pcr13", OTHER), &registered())), "warning");
}

#[test]
fn a_boot_that_is_fenced_already_does_not_affirm() {
    assert_eq!(status(&appraise(&with("pcr15", OTHER), &registered())), "warning");
}

#[test]
fn a_claim_that_is_missing_does_not_affirm() {
    for name in ["ak_public", "pcr04", "pcr07", "pcr11", "pcr12", "pcr13", "pcr15"] {
        let mut claims = machine();
        claims["tpm"].as_object_mut().unwrap().remove(name).unwrap();
        assert_ne!(status(&appraise(&claims, &registered())), "affirming", "{name}");
    }
}

#[test]
fn a_reference_value_that_is_missing_or_no_list_does_not_affirm() {
    for name in ["trusted_aks", "tpm_pcr04", "tpm_pcr07", "tpm_pcr11"] {
        let value = registered()[name][0].clone();
        for instead in [Value::Null, json!([]), value.clone(), json!([[value]]), json!("")] {
            let mut references = registered();
            references[name] = instead.clone();
            assert_ne!(status(&appraise(&machine(), &references)), "affirming", "{name} {instead}");
        }
    }
    assert_eq!(status(&appraise(&machine(), &json!({}))), "contraindicated");
}

#[test]
fn a_registered_value_of_another_claim_does_not_affirm() {
    let uki = registered()["tpm_pcr11"][0].as_str().unwrap().to_owned();
    for name in ["ak_public", "pcr04", "pcr07"] {
        assert_ne!(status(&appraise(&with(name, &uki), &registered())), "affirming", "{name}");
    }
}

#[test]
fn claims_of_another_tee_do_not_affirm() {
    assert_eq!(
        status(&appraise(&token(SAMPLE)["submods"]["cpu0"][EVIDENCE], &registered())),
        "contraindicated"
    );
    for tee in ["sample", "az-snp-vtpm", "init_data_claims", "runtime_data_claims"] {
        let mut claims = machine();
        let tpm = claims.as_object_mut().unwrap().remove("tpm").unwrap();
        claims[tee] = if tee == "sample" { tpm } else { json!({"tpm": tpm}) };
        assert_eq!(status(&appraise(&claims, &registered())), "contraindicated", "{tee}");
    }
}

// Resource policy

#[test]
fn the_owner_gets_the_key_of_its_volume_in_each_form_of_the_path() {
    for path in forms(VOLUME) {
        assert!(releases(&owned(), "resource", &path, &affirming()), "{path}");
    }
}

#[test]
fn no_other_path_is_released() {
    let longer = format!("{VOLUME}/key");
    let others = [NEIGHBOUR, &longer, "default/disk", "default/disk/", "", "/", "*", &VOLUME[1..]];
    for path in others.into_iter().flat_map(forms) {
        assert!(!releases(&owned(), "resource", &path, &affirming()), "{path}");
    }
    for path in [json!(null), json!([]), json!({}), json!(7), json!([[VOLUME]]), json!(format!("//{VOLUME}"))]
    {
        assert!(!releases(&owned(), "resource", &path, &affirming()), "{path}");
    }
}

#[test]
fn another_machine_gets_its_own_key_and_no_other() {
    let mut references = registered();
    references["trusted_aks"].as_array_mut().unwrap().push(NEIGHBOURS_AK.into());
    let neighbour = issued(&with("ak_public", NEIGHBOURS_AK), &references);
    assert_eq!(neighbour["submods"]["cpu0"]["ear.status"], "affirming");
    for path in forms(NEIGHBOUR) {
        assert!(releases(&owned(), "resource", &path, &neighbour), "{path}");
    }
    for path in forms(VOLUME) {
        assert!(!releases(&owned(), "resource", &path, &neighbour), "{path}");
    }
}

#[test]
fn the_owner_in_another_state_gets_nothing() {
    for (name, claims) in [("pcr11", with("pcr11", OTHER)), ("pcr15", with("pcr15", OTHER))] {
        let warned = issued(&claims, &registered());
        assert_eq!(warned["submods"]["cpu0"]["ear.status"], "warning", "{name}");
        assert!(!release(&warned), "{name}");
    }
    let unregistered = issued(&machine(), &json!({}));
    assert_eq!(unregistered["submods"]["cpu0"]["ear.status"], "contraindicated");
    assert!(!release(&unregistered));
}

#[test]
fn only_the_word_affirming_is_a_status_that_releases() {
    for status in
        [json!("none"), json!(""), json!("Affirming"), json!(true), json!(2), json!(null), json!({})]
    {
        let mut token = affirming();
        token["submods"]["cpu0"]["ear.status"] = status.clone();
        assert!(!release(&token), "{status}");
    }
}

#[test]
fn a_device_without_a_status_gets_nothing() {
    let mut token = affirming();
    token["submods"]["cpu0"].as_object_mut().unwrap().remove("ear.status").unwrap();
    assert!(!release(&token));
}

#[test]
fn a_token_without_devices_gets_nothing() {
    for devices in [json!({}), json!([]), json!(null), json!("cpu0")] {
        let mut token = affirming();
        token["submods"] = devices.clone();
        assert!(!release(&token), "{devices}");
    }
    let mut token = affirming();
    token.as_object_mut().unwrap().remove("submods").unwrap();
    assert!(!release(&token));
    assert!(!release(&json!({})));
}

#[test]
fn a_second_device_has_to_affirm_too() {
    let beside = |second: Value| {
        let mut token = affirming();
        token["submods"]["cpu1"] = second;
        release(&token)
    };
    let mut device = token(SAMPLE)["submods"]["cpu0"].clone();
    assert!(beside(device.clone()));
    for status in ["warning", "contraindicated", "none"] {
        device["ear.status"] = status.into();
        assert!(!beside(device.clone()), "{status}");
    }
    device.as_object_mut().unwrap().remove("ear.status").unwrap();
    assert!(!beside(device));
    assert!(!beside(json!(null)));
}

#[test]
fn the_owner_as_the_second_device_of_another_machine_gets_nothing() {
    let mut token = affirming();
    token["submods"]["cpu1"] = token["submods"]["cpu0"].clone();
    token["submods"]["cpu0"][EVIDENCE]["tpm"]["ak_public"] = NEIGHBOURS_AK.into();
    assert!(!release(&token));
}

#[test]
fn evidence_that_proves_nothing_gets_nothing_even_where_it_affirms() {
    let mut pretended = token(SAMPLE);
    assert_eq!(pretended["submods"]["cpu0"]["ear.status"], "affirming");
    assert!(!release(&pretended));
    pretended["submods"]["cpu0"][EVIDENCE]["sample"]["ak_public"] = machine()["tpm"]["ak_public"].clone();
    assert!(!release(&pretended));
}

#[test]
fn another_plugin_is_not_released() {
    for plugin in ["pkcs11", "resource-policy", "Resource", ""] {
        for path in forms(VOLUME) {
            assert!(!releases(&owned(), plugin, &path, &affirming()), "{plugin} {path}");
        }
    }
}

#[test]
fn as_it_is_written_the_policy_releases_nothing() {
    for path in forms(VOLUME).into_iter().chain(forms("default/disk/00000000-0000-0000-0000-000000000000")) {
        assert!(!releases(RESOURCE, "resource", &path, &affirming()), "{path}");
    }
}

#[test]
fn a_token_of_a_layout_that_the_policy_does_not_know_gets_nothing() {
    let summary = json!({"verification_result": true, "claims": affirming()});
    assert!(!release(&json!({"trust_context": {"attestation_summary": summary}})));
}

#[test]
fn trustees_default_policy_releases_every_key_to_a_tpm_that_nobody_registered() {
    let stranger = issued(&with("ak_public", "MIIBemulated"), &registered());
    assert_eq!(stranger["submods"]["cpu0"]["ear.status"], "contraindicated");
    for path in forms(VOLUME) {
        assert!(releases(EVERYTHING_BUT_SAMPLE, "resource", &path, &stranger), "{path}");
        assert!(!releases(EVERYTHING_BUT_SAMPLE, "resource", &path, &token(SAMPLE)), "{path}");
        assert!(!releases(&owned(), "resource", &path, &stranger), "{path}");
    }
}

// What Trustee does

/// The claims of a token that a real Trustee issued.
fn token(recording: &str) -> Value {
    let body: Value = serde_json::from_str(recording.lines().last().unwrap()).unwrap();
    let claims = body["token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(claims).unwrap()).unwrap()
}

/// The recorded machine, as if firmware had booted it: PCRs 4 and 7 of the recorded software TPM are zero.
fn machine() -> Value {
    let mut claims = token(TPM)["submods"]["cpu0"][EVIDENCE].clone();
    let pcrs = &mut claims["tpm"];
    for name in ["pcr12", "pcr13", "pcr15"] {
        assert_eq!(pcrs[name], ZERO);
    }
    assert_ne!(pcrs["pcr11"], ZERO);
    pcrs["pcr04"] = "4".repeat(64).into();
    pcrs["pcr07"] = "7a".repeat(32).into();
    claims
}

/// The same machine with one other claim.
fn with(name: &str, value: &str) -> Value {
    let mut claims = machine();
    assert_ne!(claims["tpm"][name], value);
    claims["tpm"][name] = value.into();
    claims
}

/// The reference values of step 4.
fn registered() -> Value {
    let tpm = &machine()["tpm"];
    json!({
        "trusted_aks": [tpm["ak_public"]],
        "tpm_pcr04": [tpm["pcr04"]],
        "tpm_pcr07": [tpm["pcr07"]],
        "tpm_pcr11": [tpm["pcr11"]],
    })
}

/// The attestation service: evaluates `trust_claims` with the claims as input. An unknown reference value is
/// null.
fn appraise(claims: &Value, references: &Value) -> Map<String, Value> {
    let mut engine = engine(ATTESTATION, claims);
    let references = references.clone();
    let query = move |parameters: Vec<Rego>| {
        let name = parameters[0].as_string()?.to_string();
        Rego::from_json_str(&references[name].to_string())
    };
    engine.add_extension("query_reference_value".to_owned(), 1, Box::new(query)).unwrap();
    let vector = engine.eval_rule("data.policy.trust_claims".to_owned()).unwrap();
    let vector: Map<String, Value> = serde_json::from_str(&vector.to_json_str().unwrap()).unwrap();
    let known = &token(TPM)["submods"]["cpu0"]["ear.trustworthiness-vector"];
    for (name, value) in &vector {
        assert!(known[name].is_i64() && value.is_i64(), "Trustee knows no {name}: {value}");
    }
    vector
}

/// The worst tier of a trustworthiness vector.
fn status(vector: &Map<String, Value>) -> &'static str {
    let tier = |value: &Value| match value.as_i64().unwrap() {
        -1..=1 => 0,
        -32..32 => 1,
        -96..96 => 2,
        _ => 3,
    };
    ["none", "affirming", "warning", "contraindicated"][vector.values().map(tier).max().unwrap()]
}

/// The token that Trustee would issue for these claims.
fn issued(claims: &Value, references: &Value) -> Value {
    let vector = appraise(claims, references);
    let mut token = token(TPM);
    let device = &mut token["submods"]["cpu0"];
    device["ear.status"] = status(&vector).into();
    device[EVIDENCE] = claims.clone();
    for (name, value) in vector {
        device["ear.trustworthiness-vector"][name] = value;
    }
    token
}

fn affirming() -> Value {
    let token = issued(&machine(), &registered());
    assert_eq!(token["submods"]["cpu0"]["ear.status"], "affirming");
    token
}

/// The resource policy for a machine and its neighbour, each with a volume, in place of its example.
fn owned() -> String {
    let example = "\"default/disk/00000000-0000-0000-0000-000000000000\": [\"MIIB...\"],";
    assert_eq!(RESOURCE.matches(example).count(), 1);
    let owner = &machine()["tpm"]["ak_public"];
    RESOURCE.replace(example, &format!("{VOLUME:?}: [{owner}], {NEIGHBOUR:?}: [{NEIGHBOURS_AK:?}],"))
}

/// `resource-path` in the forms of newer and older versions of Trustee.
fn forms(path: &str) -> [Value; 2] {
    [path.split('/').collect(), format!("/{path}").into()]
}

/// The key broker: evaluates `allow` with the request as data and the token's claims as input. An error
/// denies, too.
fn releases(policy: &str, plugin: &str, path: &Value, token: &Value) -> bool {
    let mut engine = engine(policy, token);
    let request = json!({"plugin": plugin, "resource-path": path, "query": {}});
    engine.add_data(Rego::from_json_str(&request.to_string()).unwrap()).unwrap();
    engine.eval_rule("data.policy.allow".to_owned()).is_ok_and(|allow| allow == Rego::Bool(true))
}

/// Whether this token gets the key of the owner's volume, in any form of the path.
fn release(token: &Value) -> bool {
    forms(VOLUME).iter().any(|path| releases(&owned(), "resource", path, token))
}

fn engine(policy: &str, input: &Value) -> Engine {
    let mut engine = Engine::new();
    engine.add_policy("policy.rego".to_owned(), policy.to_owned()).unwrap();
    engine.set_input_json(&input.to_string()).unwrap();
    engine
}
