//! `enroll` for a TPM and `unlock --dry-run`, as shipped, on image files and an emulated TPM. Other tools
//! make the volumes and judge the result.

use crate::support::executable::{option, run};
use crate::support::image::Image;
use crate::support::swtpm::Swtpm;

#[test]
fn an_enrolled_volume_would_unlock_and_an_older_key_still_opens_it() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let enrolled = image.enroll(&tpm, "7+11");
    assert_eq!(enrolled["unsealed_in_trial"], true);
    let unlocked = image.dry_run(&tpm);
    assert_eq!(
        (unlocked.code, unlocked.json()["outcome"].as_str()),
        (0, Some("would-unlock")),
        "{}",
        unlocked.stdout
    );
    image.cryptsetup(&["open", "--test-passphrase"]);
}

#[test]
fn a_changed_pcr_is_refused_by_its_name_and_the_unchanged_one_opens() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7+11");
    assert_eq!(image.dry_run(&tpm).code, 0);
    tpm.extend(11, "another kernel");
    let refused = image.dry_run(&tpm);
    assert_eq!((refused.code, refused.slug().as_str()), (77, "pcr-mismatch"), "{}", refused.stdout);
}

#[test]
fn values_of_an_earlier_boot_make_an_enrolment_boot_unnecessary() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    // sha256(zero ‖ sha256("kernel")): what PCR 11 will hold after one extend.
    let control = Swtpm::new();
    control.extend(11, "kernel");
    let enrolled = image.enroll(&tpm, &format!("7+11:sha256={}", control.pcr(11)));
    assert_eq!(enrolled["unsealed_in_trial"], false);
    assert_eq!(image.dry_run(&tpm).slug(), "pcr-mismatch");
    tpm.extend(11, "kernel");
    assert_eq!(image.dry_run(&tpm).code, 0);
}

#[test]
fn after_the_fence_the_key_is_gone_for_this_boot() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7");
    assert_eq!(image.dry_run(&tpm).code, 0);
    tpm.extend(15, "a volume key");
    let refused = image.dry_run(&tpm);
    assert_eq!((refused.code, refused.slug().as_str()), (77, "pcr15-not-zero"), "{}", refused.stdout);
}

#[test]
fn a_dry_run_changes_neither_the_pcrs_nor_the_volume() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7");
    let before = std::fs::read(image.path()).unwrap();
    assert_eq!(image.dry_run(&tpm).code, 0);
    assert!(std::fs::read(image.path()).unwrap() == before, "the volume was written to");
    assert_eq!(tpm.pcr(15), "0".repeat(64));
}

#[test]
fn another_tpm_does_not_open_the_volume() {
    let (tpm, other, image) = (Swtpm::new(), Swtpm::new(), Image::new());
    image.enroll(&tpm, "7");
    let refused = image.dry_run(&other);
    assert_eq!(refused.slug(), "tpm-foreign", "{}", refused.stdout);
    assert_eq!(image.dry_run(&tpm).code, 0);
}

#[test]
fn the_keyslot_is_cheap_and_the_token_is_systemds_with_our_binding() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let enrolled = image.enroll(&tpm, "7+11");
    let metadata = image.metadata();
    let keyslot = &metadata["keyslots"][enrolled["keyslot"].to_string()];
    assert_eq!(
        (keyslot["kdf"]["type"].as_str(), keyslot["kdf"]["iterations"].as_u64()),
        (Some("pbkdf2"), Some(1000))
    );
    let token = &metadata["tokens"][enrolled["token"].to_string()];
    assert_eq!(token["type"], "systemd-tpm2");
    assert_eq!(token["tpm2-pcrs"], serde_json::json!([7, 11, 15]));
    assert_eq!(token["tpm2-pcr-bank"], "sha256");
    assert!(token["cvm-unlock"]["binding"].is_string(), "{token}");
}

#[test]
fn an_edited_header_violates_its_binding_and_the_restored_one_opens() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7");
    let good = std::fs::read(image.path()).unwrap();
    image.change_uuid();
    let refused = image.dry_run(&tpm);
    assert_eq!((refused.code, refused.slug().as_str()), (65, "binding-violated"), "{}", refused.stdout);
    std::fs::write(image.path(), good).unwrap();
    assert_eq!(image.dry_run(&tpm).code, 0);
}

#[test]
fn a_wrong_key_and_a_policy_without_pcrs_enrol_nothing() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let before = std::fs::read(image.path()).unwrap();
    let refused = image.try_enroll(&tpm, "15");
    assert!(refused.code != 0 && refused.stderr.contains("[pcrs-none]"), "{}", refused.stderr);
    std::fs::write(image.key_file(), "battery staple").unwrap();
    let refused = image.try_enroll(&tpm, "7");
    assert!(refused.code == 77 && refused.stderr.contains("[key-wrong]"), "{}", refused.stderr);
    assert!(std::fs::read(image.path()).unwrap() == before, "the volume was written to");
    std::fs::write(image.key_file(), Image::PASSPHRASE).unwrap();
    image.enroll(&tpm, "7");
}

#[test]
fn neither_logs_nor_reports_hold_a_secret() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7");
    let run = image.dry_run(&tpm);
    let key = std::process::Command::new("cryptsetup")
        .args(["luksDump", "--batch-mode", "--dump-volume-key", "--key-file"])
        .arg(image.key_file())
        .arg(image.path())
        .output()
        .unwrap();
    let text = String::from_utf8(key.stdout).unwrap();
    let dumped = text.split_once("MK dump:").or_else(|| text.split_once("Volume key dump:")).unwrap().1;
    let bytes: Vec<&str> = dumped.split_whitespace().collect();
    assert_eq!(bytes.len(), 64, "{text}");
    for shown in [&run.stdout, &run.stderr] {
        let shown = shown.to_lowercase();
        assert!(!shown.contains(&bytes[..8].concat()) && !shown.contains(Image::PASSPHRASE));
    }
}

#[test]
fn without_a_tpm_nothing_opens() {
    let image = Image::new();
    let refused =
        run(&["unlock", "--dry-run", image.path().to_str().unwrap(), "--tpm2-device=/nonexistent", "--json"]);
    assert_eq!((refused.code, refused.slug().as_str()), (69, "tpm-absent"), "{}", refused.stdout);
}

#[test]
fn choices_that_protect_nothing_are_refused_with_an_explanation() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let before = std::fs::read(image.path()).unwrap();
    for (pcrs, slug) in
        [("", "pcrs-none"), ("15", "pcrs-none"), ("11", "pcr-replayable"), ("7+11", "pcr-replayable")]
    {
        let run = image.enroll_with(&tpm, &[&format!("--tpm2-pcrs={pcrs}")]);
        assert!(run.code == 64 && run.stderr.contains(&format!("[{slug}]")), "{pcrs}: {}", run.stderr);
        assert!(run.stderr.contains("hint: "), "{}", run.stderr);
    }
    assert!(std::fs::read(image.path()).unwrap() == before, "the volume was written to");
    for options in [&["--tpm2-pcrs=7+11", "--private-db"][..], &["--tpm2-pcrs=4+11"], &["--tpm2-pcrs=uki"]] {
        let run = image.enroll_with(&tpm, options);
        assert_eq!(run.code, 0, "{options:?}: {}", run.stderr);
        assert_eq!(run.json()["warnings"], serde_json::json!([]));
    }
    let weak = image.enroll_with(&tpm, &["--tpm2-pcrs=7"]);
    assert_eq!(weak.json()["warnings"][0]["slug"], "pcrs-weak");
}

#[test]
fn another_bank_is_chosen_by_option_and_opens() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let sign = format!("--sign-key={}", image.owner_key().display());
    let run = image.enroll_with(&tpm, &["--tpm2-pcrs=uki", "--tpm2-pcr-bank=sha384", &sign]);
    assert_eq!((run.code, &run.json()["bank"]), (0, &"sha384".into()), "{}", run.stderr);
    assert_eq!(image.dry_run(&tpm).code, 0);
    let value = format!("--tpm2-pcrs=4:sha256={}", "00".repeat(32));
    let mixed = image.enroll_with(&tpm, &[&value, "--tpm2-pcr-bank=sha384"]);
    assert!(mixed.stderr.contains("[pcrs-syntax]"), "{}", mixed.stderr);
}

#[test]
fn a_recovery_key_in_systemds_form_opens_the_volume_and_is_shown_once() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "4");
    let run = image.run("enroll", &["--unlock-tpm2", &option(&tpm), "--recovery-key", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let key = run.json()["recovery_key"].as_str().unwrap().to_owned();
    assert_eq!((key.len(), key.split('-').count()), (71, 8));
    assert!(image.opens_with(&key));
    assert!(!run.stderr.contains(&key));
    let token = image.metadata()["tokens"]["1"].clone();
    assert_eq!(
        token,
        serde_json::json!({"type": "systemd-recovery", "keyslots": [run.json()["recovery_keyslot"].to_string()]})
    );
    assert_eq!(image.dry_run(&tpm).code, 0);
    // In human-readable form: the key and its QR code.
    let key_file = format!("--unlock-key-file={}", image.key_file().display());
    let shown = image.run("enroll", &[&key_file, "--recovery-key"]);
    assert!(shown.code == 0 && shown.stdout.contains("▀"), "{}", shown.stderr);
}

#[test]
fn old_keyslots_are_wiped_once_the_new_one_has_proved_itself() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let first = image.enroll(&tpm, "4");
    let sign = format!("--sign-key={}", image.owner_key().display());
    let run = image.enroll_with(&tpm, &["--tpm2-pcrs=4+7", &sign, "--wipe-slot=tpm2,password"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.json()["wiped"], serde_json::json!([0, first["keyslot"]]));
    assert!(!image.opens_with(Image::PASSPHRASE), "the password was to be wiped");
    assert_eq!(image.dry_run(&tpm).code, 0);
    let metadata = image.metadata();
    assert_eq!(metadata["keyslots"].as_object().unwrap().len(), 1);
    assert_eq!(metadata["tokens"].as_object().unwrap().len(), 1);
    image.repair_finds_nothing();
}

#[test]
fn the_last_key_that_was_seen_to_open_is_never_wiped() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let before = std::fs::read(image.path()).unwrap();
    // Sealed to values of another boot, so no trial has opened it.
    let unproven = format!("--tpm2-pcrs=4:sha256={}", "11".repeat(32));
    let run = image.enroll_with(&tpm, &[&unproven, "--wipe-slot=all"]);
    assert!(run.code == 64 && run.stderr.contains("[wipe-last-way-in]"), "{}", run.stderr);
    let key_file = format!("--unlock-key-file={}", image.key_file().display());
    let run = image.run("enroll", &[&key_file, "--wipe-slot=0"]);
    assert!(run.stderr.contains("[wipe-last-way-in]"), "{}", run.stderr);
    assert!(std::fs::read(image.path()).unwrap() == before, "the volume was written to");
    // With a recovery key that passed its trial, the old keyslot may go.
    let run = image.enroll_with(&tpm, &[&unproven, "--wipe-slot=all", "--recovery-key"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(image.opens_with(run.json()["recovery_key"].as_str().unwrap()));
}

#[test]
fn a_volume_is_opened_by_its_own_token_instead_of_a_key_file() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let none = image.run("enroll", &["--unlock-tpm2", &option(&tpm), "--tpm2-pcrs=4"]);
    assert!(none.code != 0 && none.stderr.contains("[token-none]"), "{}", none.stderr);
    image.enroll(&tpm, "4");
    let sign = format!("--sign-key={}", image.owner_key().display());
    let run = image.run(
        "enroll",
        &["--unlock-tpm2", &option(&tpm), "--tpm2-pcrs=4+7", &sign, "--wipe-slot=tpm2", "--json"],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(image.dry_run(&tpm).code, 0);
    assert!(image.opens_with(Image::PASSPHRASE));
}
