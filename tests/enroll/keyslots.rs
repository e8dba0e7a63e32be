//! What administrative commands do with keyslots that no boot tries: they show, skip (with a message) and
//! wipe them.

use serde_json::json;

use crate::support::image::Image;
use crate::support::swtpm::Swtpm;

/// A volume with a keyslot 1 whose hash no boot accepts, opened by `passphrase`.
fn odd(passphrase: &str) -> Image {
    let image = Image::new();
    let file = image.key_file().with_file_name("odd");
    std::fs::write(&file, passphrase).unwrap();
    let status = std::process::Command::new("cryptsetup")
        .args([
            "luksAddKey",
            "--batch-mode",
            "--pbkdf=pbkdf2",
            "--pbkdf-force-iterations=1000",
            "--hash=sha1",
        ])
        .arg("--key-file")
        .args([image.key_file(), image.path(), file])
        .status();
    assert!(status.unwrap().success());
    image
}

fn unlock_key_file(path: &std::path::Path) -> String {
    format!("--unlock-key-file={}", path.display())
}

#[test]
fn inspect_says_why_a_keyslot_is_not_for_a_boot() {
    let image = odd("recovery");
    let keyslots = image.run("inspect", &["--json"]).json()["header"]["keyslots"].clone();
    assert_eq!((&keyslots["0"]["refused"], &keyslots["1"]["kdf"]), (&json!(null), &json!(null)));
    assert_eq!(keyslots["1"]["refused"]["slug"], "luks-hash");
    let text = image.run("inspect", &[]).stdout;
    assert!(text.contains("keyslot 1") && text.contains("not for a boot"), "{text}");
}

#[test]
fn a_key_of_a_keyslot_that_is_not_tried_is_told_apart_from_a_wrong_one() {
    let image = odd("recovery");
    let file = image.key_file().with_file_name("odd");
    let tried = |image: &Image| image.run("enroll", &[&unlock_key_file(&file), "--recovery-key"]);
    let run = tried(&image);
    assert!(run.stderr.contains("keyslot 1") && run.stderr.contains("[luks-hash]"), "{}", run.stderr);
    let plain = Image::new();
    assert!(tried(&plain).stderr.contains("[key-wrong]"));
    // The keyslot does not prevent the right key from opening the volume.
    let run = image.run("enroll", &[&unlock_key_file(&image.key_file()), "--recovery-key"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn a_keyslot_that_is_not_tried_is_wiped_by_its_number() {
    let (tpm, image) = (Swtpm::new(), odd("recovery"));
    image.enroll(&tpm, "7");
    let run = image
        .run("enroll", &[&unlock_key_file(&image.key_file()), "--recovery-key", "--wipe-slot=1", "--json"]);
    assert_eq!((run.code, &run.json()["wiped"]), (0, &json!([1])), "{}", run.stderr);
    assert!(!image.opens_with("recovery"));
    image.repair_finds_nothing();
    assert_eq!(image.dry_run(&tpm).code, 0);
}

#[test]
fn whether_the_empty_passphrase_opens_such_a_keyslot_is_not_passed_over_in_silence() {
    let image = odd("");
    let key = unlock_key_file(&image.key_file());
    let before = std::fs::read(image.path()).unwrap();
    let run = image.run("enroll", &[&key, "--recovery-key", "--wipe-slot=empty"]);
    assert!(run.stderr.contains("keyslot 1") && run.stderr.contains("[luks-hash]"), "{}", run.stderr);
    assert!(std::fs::read(image.path()).unwrap() == before, "the volume was written to");
    let run = image.run("enroll", &[&key, "--recovery-key", "--wipe-slot=empty,1", "--json"]);
    assert_eq!((run.code, &run.json()["wiped"]), (0, &json!([1])), "{}", run.stderr);
    assert!(!image.opens_with(""));
}
