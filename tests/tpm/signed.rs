//! Signed policies and imported objects made by systemd and tpm2-tools: what opens, and what is refused.

use std::fs;
use std::path::Path;

use cvm_unlock::policy::key::PolicyKey;
use serde_json::{Value, json};

use crate::support::encoding::hex;
use crate::support::executable::{Run, option, run};
use crate::support::image::Image;
use crate::support::swtpm::Swtpm;
use crate::support::systemd::{self, Signer, boot, cryptenroll, dry_run};
use crate::support::tool;

/// A volume enrolled by systemd-cryptenroll for a policy key, perhaps with literal PCRs.
struct Fixture {
    tpm: Swtpm,
    signer: Signer,
    image: Image,
    root: tempfile::TempDir,
}

impl Fixture {
    fn new(literal: &str) -> Self {
        let (tpm, signer, image) = (Swtpm::new(), Signer::new(), Image::new());
        // Without a matching signature, systemd refuses to enrol.
        let nothing = signer.file("nothing.json");
        fs::write(&nothing, "{}").unwrap();
        cryptenroll(
            &image,
            &tpm,
            &[
                &format!("--tpm2-pcrs={literal}"),
                &format!("--tpm2-public-key={}", signer.public().display()),
                "--tpm2-public-key-pcrs=11",
                "--tpm2-signature=",
            ],
        );
        Self { tpm, signer, image, root: tempfile::tempdir().unwrap() }
    }

    fn run(&self, signature: &Path) -> Run {
        let named = format!("--tpm2-signature={}", signature.display());
        dry_run(&self.image, &self.tpm, self.root.path(), &[&named])
    }

    #[track_caller]
    fn opens(&self, signature: &Path) {
        let run = self.run(signature);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    }

    #[track_caller]
    fn is_refused(&self, signature: &Path, slug: &str) -> Value {
        let run = self.run(signature);
        assert_eq!((run.slug(), run.code), (slug.to_owned(), 77), "{}{}", run.stdout, run.stderr);
        run.json()["failure"]["message"].clone()
    }
}

#[test]
fn a_signed_policy_of_systemd_opens_in_the_signed_phase_of_any_signed_kernel() {
    let mut fixture = Fixture::new("");
    for kernel in ["kernel-1", "kernel-2"] {
        let signature = fixture.signer.sign(&fixture.tpm, kernel, "enter-initrd");
        boot(&fixture.tpm, kernel, "enter-initrd");
        fixture.opens(&signature);
        fixture.tpm.extend(11, "leave-initrd");
        fixture.is_refused(&signature, "signature-missing");
        fixture.tpm.reboot();
    }
}

#[test]
fn a_signed_policy_beside_literal_pcrs_of_systemd_asks_for_both() {
    let mut fixture = Fixture::new("7");
    let signature = fixture.signer.sign(&fixture.tpm, "kernel", "enter-initrd");
    fixture.is_refused(&signature, "signature-missing");
    boot(&fixture.tpm, "kernel", "enter-initrd");
    let opened = fixture.run(&signature).json();
    let policy = json!({"kind": "signed", "pcrs": [7], "signed_pcrs": [11]});
    assert_eq!(opened["volume"]["policy"], policy, "{opened}");
    fixture.tpm.extend(7, "another Secure Boot state");
    let message = fixture.is_refused(&signature, "pcr-mismatch");
    assert!(message.as_str().unwrap().contains("PCRs 7 (sha256) changed since enrolment"), "{message}");
    fixture.tpm.reboot();
    boot(&fixture.tpm, "kernel", "enter-initrd");
    fixture.opens(&signature);
}

#[test]
fn without_a_signature_the_refusal_says_what_was_looked_for() {
    let fixture = Fixture::new("");
    let stranger = Signer::new();
    let other = stranger.sign(&fixture.tpm, "kernel", "enter-initrd");
    boot(&fixture.tpm, "kernel", "enter-initrd");
    let right = fixture.signer.sign(&fixture.tpm, "kernel", "enter-initrd");
    let fingerprint = {
        let pem = fs::read_to_string(fixture.signer.public()).unwrap();
        hex(PolicyKey::from_pem(&pem).unwrap().fingerprint())
    };
    assert!(fs::read_to_string(&right).unwrap().contains(&fingerprint));
    let message = fixture.is_refused(&other, "signature-missing");
    for part in ["PCRs 11 of bank sha256", &fingerprint, "none of other values either"] {
        assert!(message.as_str().unwrap().contains(part), "{message}");
    }
    fixture.opens(&right);
}

#[test]
fn a_forged_signature_is_refused_by_the_tpm() {
    let fixture = Fixture::new("");
    boot(&fixture.tpm, "kernel", "enter-initrd");
    let signature = fixture.signer.sign(&fixture.tpm, "kernel", "enter-initrd");
    fixture.opens(&signature);
    let mut file: Value = serde_json::from_slice(&fs::read(&signature).unwrap()).unwrap();
    // The signature of another bank's policy, by the same key.
    file["sha256"][0]["sig"] = file["sha1"][0]["sig"].clone();
    let forged = fixture.signer.file("forged.json");
    fs::write(&forged, file.to_string()).unwrap();
    fixture.is_refused(&forged, "signature-invalid");
    fs::write(&forged, "{\"sha256\": [{}]}").unwrap();
    let run = fixture.run(&forged);
    assert_eq!((run.slug().as_str(), run.code), ("signature-file-malformed", 65));
}

#[test]
fn signature_files_are_found_where_systemds_stub_and_systemd_leave_them() {
    let fixture = Fixture::new("");
    boot(&fixture.tpm, "kernel", "enter-initrd");
    let signature = fixture.signer.sign(&fixture.tpm, "kernel", "enter-initrd");
    let run = || dry_run(&fixture.image, &fixture.tpm, fixture.root.path(), &[]);
    assert_eq!(run().slug(), "signature-missing");
    for place in [".extra", "etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"] {
        let directory = fixture.root.path().join(place);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(&signature, directory.join("tpm2-pcr-signature.json")).unwrap();
        assert_eq!(run().code, 0, "{place}");
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn several_tokens_are_tried_in_order_with_the_tpm_opened_once() {
    let fixture = Fixture::new("7");
    cryptenroll(&fixture.image, &fixture.tpm, &["--tpm2-pcrs=8"]);
    cryptenroll(&fixture.image, &fixture.tpm, &["--tpm2-pcrs=16"]);
    fixture.tpm.extend(8, "another command line");
    let run = dry_run(&fixture.image, &fixture.tpm, fixture.root.path(), &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let report = run.json();
    assert_eq!(report["volume"]["token"], 2);
    let slugs: Vec<_> =
        report["refused_tokens"].as_array().unwrap().iter().map(|token| &token["slug"]).collect();
    assert_eq!(slugs, ["signature-missing", "pcr-mismatch"]);
}

#[test]
fn a_pin_token_of_systemd_is_refused_by_that_word() {
    let (tpm, image, root) = (Swtpm::new(), Image::new(), tempfile::tempdir().unwrap());
    let run = || dry_run(&image, &tpm, root.path(), &[]);
    assert_eq!(run().slug(), "token-none");
    let mut command = std::process::Command::new("systemd-cryptenroll");
    command.env("PASSWORD", Image::PASSPHRASE).env("NEWPIN", "1234");
    command.arg(format!("--tpm2-device={}", tpm.device())).args(["--tpm2-with-pin=yes", "--tpm2-pcrs=7"]);
    tool::succeed(command.arg(image.path()));
    assert_eq!(run().slug(), "token-pin");
}

/// SPECIFICATION K14: at most 11 commands for a dry run with literal PCRs beside the signature.
#[test]
fn a_dry_run_with_a_signed_policy_stays_within_its_budget_of_commands() {
    for (literal, limit) in [("", 10), ("7", 11), ("7+15", 11)] {
        let fixture = Fixture::new(literal);
        boot(&fixture.tpm, "kernel", "enter-initrd");
        let signature = fixture.signer.sign(&fixture.tpm, "kernel", "enter-initrd");
        let before = fixture.tpm.commands().len();
        fixture.opens(&signature);
        let commands = fixture.tpm.commands().split_off(before);
        println!("literal PCRs {literal:?}: {} commands {commands:x?}", commands.len());
        // systemd 252 has no storage root key: CreatePrimary and its FlushContext are added to the budget.
        assert!(commands.len() <= limit + 2, "{commands:x?}");
        assert_eq!(commands.iter().filter(|code| **code == 0x17e).count(), 1, "one TPM2_PCR_Read");
    }
}

#[test]
fn we_enrol_a_signed_policy_with_pcr_15_by_value_and_each_signed_kernel_opens_it() {
    let (mut tpm, image, signer) = (Swtpm::new(), Image::new(), systemd::Signer::new());
    let root = tempfile::tempdir().unwrap();
    let key = format!("--tpm2-public-key={}", signer.public().display());
    let sign = format!("--sign-key={}", image.owner_key().display());
    let replayable = image.enroll_with(&tpm, &[&key]);
    assert!(replayable.stderr.contains("[pcr-replayable]"), "{}", replayable.stderr);
    let enrolled = image.enroll_with(&tpm, &[&key, "--tpm2-pcrs=7", "--private-db", &sign]);
    assert_eq!(enrolled.code, 0, "{}", enrolled.stderr);
    assert_eq!(
        (&enrolled.json()["signed_pcrs"], &enrolled.json()["unsealed_in_trial"]),
        (&json!([11]), &json!(false))
    );
    let token = image.metadata()["tokens"]["0"].clone();
    assert_eq!((&token["tpm2_pubkey_pcrs"], &token["tpm2-pcrs"]), (&json!([11]), &json!([7, 15])));

    for kernel in ["first kernel", "second kernel"] {
        let signature = signer.sign(&tpm, kernel, "enter-initrd");
        tpm.reboot();
        boot(&tpm, kernel, "enter-initrd");
        let config = format!("--config={}", image.config_file().display());
        let named = format!("--tpm2-signature={}", signature.display());
        let (path, device, root) = (image.path(), option(&tpm), format!("--root={}", root.path().display()));
        let run =
            run(&["unlock", "--dry-run", path.to_str().unwrap(), &device, &config, &root, &named, "--json"]);
        assert_eq!(run.code, 0, "{kernel}: {}{}", run.stdout, run.stderr);
        // Its own token allows the volume to be changed, too.
        let again =
            image.run("enroll", &["--unlock-tpm2", &device, &named, &key, "--tpm2-pcrs=4", &sign, "--json"]);
        assert_eq!((again.code, &again.json()["unsealed_in_trial"]), (0, &json!(true)), "{}", again.stderr);
    }
    boot(&tpm, "no kernel of ours", "enter-initrd");
    assert_ne!(image.dry_run(&tpm).code, 0);
}

#[test]
fn another_parent_key_is_used_if_its_handle_is_named() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    tpm.tool("tpm2_createprimary -C o -G ecc256:aes128cfb -c parent.ctx");
    tpm.tool("tpm2_evictcontrol -C o -c parent.ctx 0x81000123");
    let sign = format!("--sign-key={}", image.owner_key().display());
    let run = image.enroll_with(&tpm, &["--tpm2-pcrs=4", &sign, "--tpm2-seal-key-handle=0x81000123"]);
    assert_eq!((run.code, &run.json()["unsealed_in_trial"]), (0, &json!(true)), "{}", run.stderr);
    let srk = image.metadata()["tokens"]["0"]["tpm2_srk"].as_str().unwrap().to_owned();
    assert!(srk.starts_with("gQABI"), "{srk}");
    assert_eq!(image.dry_run(&tpm).code, 0);
    let absent = image.enroll_with(&tpm, &["--tpm2-pcrs=4", "--tpm2-seal-key-handle=0x81000456"]);
    assert!(absent.stderr.contains("[srk-absent]"), "{}", absent.stderr);
}
