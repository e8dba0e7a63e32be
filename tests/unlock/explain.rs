//! `unlock --dry-run` explains to the administrator which token would open, and if none, which PCR differs
//! and how; in a fenced boot by what that boot's unlock recorded.

use serde_json::{Value, json};

use crate::support::executable::{Run, option, run};
use crate::support::image::Image;
use crate::support::machine::{SOME_ESP, add_disk, configured, report, unlock};
use crate::support::swtpm::Swtpm;
use crate::support::systemd;
use crate::support::tree::Tree;

const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Puts `values` into our member of token 0, like an enrolment; anybody can.
fn record(image: &Image, values: &Value) {
    let mut token = image.metadata()["tokens"]["0"].clone();
    token["cvm-unlock"]["pcrs"] = values.clone();
    image.replace_token("0", &token);
}

fn dry_run(image: &Image, tpm: &Swtpm) -> Run {
    let root = tempfile::tempdir().unwrap();
    systemd::dry_run(image, tpm, root.path(), &[])
}

fn values(pcr_7: &str) -> Value {
    json!({"7": pcr_7, "11": ZERO, "15": ZERO})
}

#[test]
fn the_pcr_that_differs_is_named_with_both_values() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7+11");
    record(&image, &values(ZERO));
    assert_eq!(dry_run(&image, &tpm).code, 0);
    tpm.extend(7, "another Secure Boot state");
    let refused = dry_run(&image, &tpm);
    assert_eq!((refused.slug().as_str(), refused.code), ("pcr-mismatch", 77));
    let token = &refused.json()["refused_tokens"][0];
    assert_eq!(token["pcrs"], json!([{"pcr": 7, "enrolled": ZERO, "now": tpm.pcr(7)}]));
    assert!(token["message"].as_str().unwrap().contains("PCR 7 changed since enrolment"), "{token}");
    // In human-readable form, too.
    let path = image.path();
    let config = format!("--config={}", image.config_file().display());
    let text = run(&["unlock", "--dry-run", path.to_str().unwrap(), &option(&tpm), &config]).stdout;
    for line in [format!("PCR 7: enrolled {ZERO}"), format!("now      {}", tpm.pcr(7))] {
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn values_that_somebody_else_recorded_are_not_shown() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7+11");
    tpm.extend(7, "another Secure Boot state");
    record(&image, &values(&"11".repeat(32)));
    let refused = dry_run(&image, &tpm).json();
    let token = &refused["refused_tokens"][0];
    assert_eq!((&token["slug"], token.get("pcrs")), (&json!("pcr-mismatch"), None));
    assert!(token["message"].as_str().unwrap().contains("not those that its policy is made of"), "{token}");
    record(&image, &values(ZERO));
    assert_eq!(dry_run(&image, &tpm).json()["refused_tokens"][0]["pcrs"][0]["pcr"], 7);
}

#[test]
fn a_token_without_values_is_said_to_have_only_a_digest() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    systemd::cryptenroll(&image, &tpm, &["--tpm2-pcrs=7+11"]);
    let opens = dry_run(&image, &tpm);
    assert_eq!(opens.code, 0, "{}{}", opens.stdout, opens.stderr);
    tpm.extend(7, "another Secure Boot state");
    let token = dry_run(&image, &tpm).json()["refused_tokens"][0].clone();
    assert_eq!((&token["slug"], token.get("pcrs")), (&json!("pcr-mismatch"), None));
    let message = token["message"].as_str().unwrap();
    assert!(message.contains("one or more of PCRs 7+11 (sha256)") && message.contains("only a digest"));
}

/// A machine whose root volume is the image, on each of these disks.
fn machine(image: &Image, disks: &[&str]) -> Tree {
    let tree = configured(json!({"policy": {"require_authentic": false}}));
    let volume = std::fs::read(image.path()).unwrap();
    for (minor, disk) in (0..).step_by(16).zip(disks) {
        add_disk(&tree, disk, minor, &volume, SOME_ESP);
    }
    tree
}

#[test]
fn an_unlock_records_the_pcr_values_that_tokens_are_about() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7+11");
    tpm.extend(11, "another kernel");
    let (seven, eleven) = (tpm.pcr(7), tpm.pcr(11));
    let tree = machine(&image, &["vda"]);
    assert_eq!(unlock(&tree, &tpm, &[]).code, 77);
    // The values at entry: PCR 15 contains the failure by now.
    assert_eq!(report(&tree)["pcrs"]["sha256"], json!({"7": seven, "11": eleven, "15": ZERO}));
    assert_ne!(tpm.pcr(15), ZERO);
}

#[test]
fn in_a_fenced_boot_a_dry_run_judges_policies_by_what_the_unlock_recorded() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7+11");
    // Two proven volumes: the unlock stops after the proof, and fences.
    let tree = machine(&image, &["vda", "vdb"]);
    assert_eq!(unlock(&tree, &tpm, &[]).code, 65);
    assert_eq!(report(&tree)["failure"]["slug"], "root-ambiguous");
    let before = tpm.commands();
    let path = image.path();
    let named = ["--dry-run", path.to_str().unwrap()];
    let judged = unlock(&tree, &tpm, &named);
    assert_eq!(judged.code, 0, "{}{}", judged.stdout, judged.stderr);
    assert_eq!(judged.json()["outcome"], "policy-holds");
    assert_eq!(judged.json()["warnings"][0]["slug"], "boot-fenced");
    assert_eq!(judged.json()["volume"]["token"], 0);
    assert_eq!(judged.json()["volume"]["policy"]["pcrs"], json!([7, 11, 15]));
    assert!(judged.json()["volume"]["proof"].is_null(), "nothing was unsealed, so nothing is proven");
    // A single TPM2_PCR_Read: nothing is loaded or unsealed.
    assert_eq!(tpm.commands()[before.len()..], [0x17e]);

    // A volume enrolled for another state: the same boot would refuse it, and says why.
    let other = Image::new();
    other.enroll(&tpm, &format!("7:sha256={}+11:sha256={ZERO}", "11".repeat(32)));
    let path = other.path();
    let refused = unlock(&tree, &tpm, &["--dry-run", path.to_str().unwrap()]);
    assert_eq!((refused.slug().as_str(), refused.code), ("pcr-mismatch", 77));
    assert_eq!(refused.json()["refused_tokens"][0]["slug"], "pcr-mismatch");

    // Without a report of this boot, policies cannot be judged.
    std::fs::remove_file(tree.path().join("run/cvm-unlock/report.json")).unwrap();
    let refused = unlock(&tree, &tpm, &named);
    assert_eq!((refused.slug().as_str(), refused.code), ("pcr15-not-zero", 77));
}

/// SPECIFICATION K6, with a literal policy: at most 6 commands for a dry run and 10 for a whole unlock, the
/// library's probe of a device included; also for the largest preset of PCRs.
#[test]
fn reading_pcr_values_for_the_report_stays_within_the_budget_of_commands() {
    let unsealing = [0x157, 0x176, 0x17f, 0x15e, 0x165];
    for (pcrs, reads) in [("4+7", 1), ("uki", 2)] {
        let (tpm, image) = (Swtpm::new(), Image::new());
        image.enroll(&tpm, pcrs);
        let before = tpm.commands().len();
        assert_eq!(dry_run(&image, &tpm).code, 0);
        assert_eq!(tpm.commands()[before..], [&[0x17e][..], &unsealing].concat(), "{pcrs}");
        // A real run as far as the test can go: it unseals for both copies, then fences the failure.
        let tree = machine(&image, &["vda", "vdb"]);
        let before = tpm.commands().len();
        assert_eq!(unlock(&tree, &tpm, &[]).code, 65);
        let expected = [&vec![0x17e; reads], &unsealing[..], &unsealing, &[0x17a, 0x182]].concat();
        assert_eq!(tpm.commands()[before..], expected, "{pcrs}");
        let (one_volume, probe) = (expected.len() - unsealing.len(), 1);
        assert!(one_volume + probe <= 10, "{pcrs}");
    }
}
