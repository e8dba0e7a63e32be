//! Who can make a volume that opens. The attacker has the executable and the TPM's parent key, like anybody
//! who could ever talk to the TPM, but not the owner's private key.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::encoding::hex;
use crate::support::executable::{Run, run};
use crate::support::image::Image;
use crate::support::owner;
use crate::support::swtpm::Swtpm;
use crate::support::systemd::dry_run;
use crate::support::tool;

/// Writes a configuration beside the TPM's state.
fn config(tpm: &Swtpm, value: &serde_json::Value) -> PathBuf {
    let path = tpm.file("config.json");
    std::fs::write(&path, value.to_string()).unwrap();
    path
}

fn refused(run: &Run) -> (i32, String) {
    (run.code, run.slug())
}

fn opens(run: &Run) {
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

/// A key of the attacker's own, made by openssl.
fn attackers_key(tpm: &Swtpm) -> PathBuf {
    let path = tpm.file("attacker.key");
    let status = Command::new("openssl")
        .args(["genpkey", "-algorithm", "Ed25519", "-out"])
        .arg(&path)
        .status()
        .expect("openssl");
    assert!(status.success());
    path
}

#[test]
fn a_volume_that_somebody_else_sealed_to_the_same_tpm_is_refused_and_the_owners_opens() {
    let (tpm, ours, theirs) = (Swtpm::new(), Image::new(), Image::new());
    ours.enroll(&tpm, "7");
    opens(&ours.dry_run(&tpm));
    // The same TPM, the same PCRs, a valid binding: only the owner's signature is missing.
    opens(&theirs.enroll_with(&tpm, &["--tpm2-pcrs=7"]));
    assert_eq!(refused(&theirs.dry_run(&tpm)), (77, "volume-unauthenticated".to_owned()));
    // It does unseal and its binding holds: with the switch off, it would open.
    let mut lax = owner::config();
    lax["policy"] = json!({"require_authentic": false});
    let lax = theirs.dry_run_under(&tpm, &config(&tpm, &lax));
    opens(&lax);
    assert_eq!(lax.json()["warnings"][0]["slug"], "volume-unauthenticated");
}

#[test]
fn a_signature_by_a_key_that_the_configuration_does_not_name_proves_nothing() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let sign = format!("--sign-key={}", attackers_key(&tpm).display());
    opens(&image.enroll_with(&tpm, &["--tpm2-pcrs=7", &sign]));
    assert_eq!(refused(&image.dry_run(&tpm)), (77, "owner-unknown".to_owned()));
}

#[test]
fn the_owners_signature_on_another_volume_is_invalid() {
    let (tpm, ours, theirs) = (Swtpm::new(), Image::new(), Image::new());
    let enrolled = ours.enroll(&tpm, "7");
    let signed = ours.metadata()["tokens"][enrolled["token"].to_string()]["cvm-unlock"].clone();
    let made = theirs.enroll_with(&tpm, &["--tpm2-pcrs=7"]).json();
    let mut token = theirs.metadata()["tokens"][made["token"].to_string()].clone();
    for member in ["signature", "signer"] {
        token["cvm-unlock"][member] = signed[member].clone();
    }
    theirs.replace_token(&made["token"].to_string(), &token);
    assert_eq!(refused(&theirs.dry_run(&tpm)), (65, "owner-signature-invalid".to_owned()));
    // No configuration accepts that.
    let mut lax = owner::config();
    lax["policy"] = json!({"require_authentic": false});
    assert_eq!(theirs.dry_run_under(&tpm, &config(&tpm, &lax)).slug(), "owner-signature-invalid");
    opens(&ours.dry_run(&tpm));
}

#[test]
fn a_pinned_volume_key_opens_without_a_signature_and_another_one_does_not() {
    let (tpm, ours, theirs) = (Swtpm::new(), Image::new(), Image::new());
    let enrolled = ours.enroll_with(&tpm, &["--tpm2-pcrs=7"]).json();
    opens(&theirs.enroll_with(&tpm, &["--tpm2-pcrs=7"]));
    let pinned = config(&tpm, &json!({"authentic": {"volume_keys": [enrolled["volume_key"]]}}));
    opens(&ours.dry_run_under(&tpm, &pinned));
    assert_eq!(refused(&theirs.dry_run_under(&tpm, &pinned)), (77, "volume-key-not-pinned".to_owned()));
}

#[test]
fn the_report_names_the_proof_that_opened_the_volume() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let enrolled = image.enroll(&tpm, "7+11");
    let mut der = Command::new("openssl");
    der.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(image.owner_key());
    let fingerprint = hex(&Sha256::digest(tool::succeed(&mut der)));
    let policy = json!({"kind": "literal", "pcrs": [7, 11, 15], "signed_pcrs": []});

    let signed = image.dry_run(&tpm).json()["volume"].clone();
    let by_owner =
        json!({"binding": "verified", "authenticity": "owner-signature", "owner_key": fingerprint});
    assert_eq!((&signed["proof"], &signed["policy"]), (&by_owner, &policy));
    assert_eq!((&signed["token"], &signed["keyslot"]), (&enrolled["token"], &enrolled["keyslot"]));

    let pinned = config(&tpm, &json!({"authentic": {"volume_keys": [enrolled["volume_key"]]}}));
    let pinned = image.dry_run_under(&tpm, &pinned).json();
    assert_eq!(pinned["volume"]["proof"], json!({"binding": "verified", "authenticity": "volume-key-pin"}));

    // A token of systemd's proves nothing, and the report says so.
    let number = enrolled["token"].to_string();
    let mut token = image.metadata()["tokens"][&number].clone();
    token.as_object_mut().unwrap().remove("cvm-unlock");
    image.replace_token(&number, &token);
    let root = tempfile::tempdir().unwrap();
    let lax = dry_run(&image, &tpm, root.path(), &[]).json();
    assert_eq!(lax["volume"]["proof"], json!({"binding": "absent", "authenticity": "absent"}));
    assert_eq!(lax["volume"]["policy"], policy);
    // A refused volume has proved nothing.
    let refused = image.dry_run(&tpm).json();
    assert!(refused["volume"]["proof"].is_null() && refused["volume"]["luks_uuid"].is_string(), "{refused}");
}

#[test]
fn the_default_configuration_opens_nothing_that_has_no_proof() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    opens(&image.enroll_with(&tpm, &["--tpm2-pcrs=7"]));
    let empty = config(&tpm, &json!({}));
    assert_eq!(refused(&image.dry_run_under(&tpm, &empty)), (77, "volume-unauthenticated".to_owned()));
    let check = run(&["config", "check", &format!("--config={}", empty.display())]);
    assert!(check.code == 0 && check.stderr.contains("No volume will open"), "{}", check.stderr);
}

#[test]
fn each_kind_of_owner_key_that_openssl_makes_signs_and_is_accepted() {
    let tpm = Swtpm::new();
    for (kind, option) in
        [("EC", "ec_paramgen_curve:P-256"), ("RSA", "rsa_keygen_bits:3072"), ("Ed25519", "")]
    {
        let (image, key) = (Image::new(), tpm.file(&format!("{kind}.key")));
        let mut generate = Command::new("openssl");
        generate.args(["genpkey", "-algorithm", kind, "-out"]).arg(&key);
        if !option.is_empty() {
            generate.args(["-pkeyopt", option]);
        }
        tool::succeed(&mut generate);
        let public = tool::succeed(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key));
        opens(&image.enroll_with(&tpm, &["--tpm2-pcrs=7", &format!("--sign-key={}", key.display())]));
        let public = String::from_utf8(public).unwrap();
        let owned = config(&tpm, &json!({"authentic": {"owner_keys": [public]}}));
        opens(&image.dry_run_under(&tpm, &owned));
        assert_eq!(image.dry_run(&tpm).slug(), "owner-unknown", "{kind}");
    }
}

#[test]
fn a_signing_key_that_is_none_is_refused_before_anything_is_written() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let before = std::fs::read(image.path()).unwrap();
    for (content, code) in [("owner", 64), (owner::PUBLIC_KEY, 64)] {
        let path = tpm.file("not.key");
        std::fs::write(&path, content).unwrap();
        let run = image.enroll_with(&tpm, &["--tpm2-pcrs=7", &format!("--sign-key={}", path.display())]);
        assert!(run.code == code && run.stderr.contains("[sign-key]"), "{}", run.stderr);
    }
    assert!(std::fs::read(image.path()).unwrap() == before, "the volume was written to");
}
