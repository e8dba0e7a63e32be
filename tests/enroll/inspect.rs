//! `inspect` and `bind`, as shipped, on image files.

use serde_json::json;

use crate::support::executable::option;
use crate::support::image::Image;
use crate::support::swtpm::Swtpm;

/// An image with a token of systemd's: ours without our own member.
fn systemds(tpm: &Swtpm, pcrs: &str) -> (Image, String) {
    let image = Image::new();
    let number = image.enroll(tpm, pcrs)["token"].to_string();
    let mut token = image.metadata()["tokens"][&number].clone();
    token.as_object_mut().unwrap().remove("cvm-unlock");
    image.replace_token(&number, &token);
    (image, number)
}

#[test]
fn a_token_of_systemds_is_bound_and_signed_without_enrolling_anew() {
    let tpm = Swtpm::new();
    let (image, number) = systemds(&tpm, "4+7");
    assert_eq!(image.dry_run(&tpm).slug(), "binding-missing");
    let before = image.metadata();
    let sign = format!("--sign-key={}", image.owner_key().display());
    let bound = image.run("bind", &[&option(&tpm), &sign, "--json"]);
    assert_eq!(bound.code, 0, "{}", bound.stderr);
    assert_eq!(bound.json()["token"].to_string(), number);
    assert_eq!(image.dry_run(&tpm).code, 0);
    // Only our member is new.
    let mut after = image.metadata();
    let member = after["tokens"][&number].as_object_mut().unwrap().remove("cvm-unlock").unwrap();
    assert_eq!(before, after);
    assert_eq!(member["pcrs"]["4"], tpm.pcr(4));
    image.repair_finds_nothing();
    // An edit is refused from now on.
    image.change_uuid();
    assert_eq!(image.dry_run(&tpm).slug(), "binding-violated");
}

#[test]
fn what_the_tpm_does_not_open_cannot_be_bound() {
    let tpm = Swtpm::new();
    let (image, _) = systemds(&tpm, "4");
    let before = std::fs::read(image.path()).unwrap();
    let absent = image.run("bind", &[&option(&tpm), "--token-id=9"]);
    assert!(absent.code == 64 && absent.stderr.contains("[bind-no-token]"), "{}", absent.stderr);
    tpm.extend(4, "another loader");
    let refused = image.run("bind", &[&option(&tpm)]);
    assert!(refused.code == 77 && refused.stderr.contains("[pcr-mismatch]"), "{}", refused.stderr);
    assert!(std::fs::read(image.path()).unwrap() == before, "the volume was written to");
}

#[test]
fn an_inspection_tells_what_an_administrator_asks() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    let enrolled = image.enroll(&tpm, "4+7");
    let key = format!("--unlock-key-file={}", image.key_file().display());
    let inspected = image.run("inspect", &[&key, "--json"]);
    assert_eq!(inspected.code, 0, "{}", inspected.stderr);
    let header = &inspected.json()["header"];
    assert_eq!(header["luks_uuid"], enrolled["luks_uuid"]);
    assert_eq!(header["volume_key"], enrolled["volume_key"]);
    assert_eq!((&header["cipher"], &header["key_bytes"]), (&json!("aes-xts-plain64"), &json!(64)));
    assert_eq!(header["keyslots"].as_object().unwrap().len(), 2);
    let token = &header["tokens"][enrolled["token"].to_string()];
    for (member, value) in [
        ("type", json!("systemd-tpm2")),
        ("kind", json!("literal")),
        ("pcrs", json!([4, 7, 15])),
        ("bank", json!("sha256")),
        ("fenced", json!(true)),
        ("bound", json!(true)),
        ("signer", enrolled["signer"].clone()),
        ("sealed_to", enrolled["pcrs"].clone()),
    ] {
        assert_eq!(token[member], value, "{member}");
    }
    let text = image.run("inspect", &[]).stdout;
    assert!(text.contains("allow-list") && text.contains("single use; bound; signed by"), "{text}");
}

#[test]
fn a_header_that_a_boot_would_refuse_is_refused_by_slug_and_place() {
    let image = Image::new();
    assert_eq!(image.run("inspect", &["--json"]).json()["refused"], json!(null));
    // Both copies damaged.
    let mut bytes = std::fs::read(image.path()).unwrap();
    for at in [0x10, 0x4010] {
        bytes[at] ^= 0x80;
    }
    std::fs::write(image.path(), bytes).unwrap();
    let refused = image.run("inspect", &["--json"]);
    assert_eq!(
        (refused.code, &refused.json()["refused"]["slug"]),
        (65, &json!("luks-checksum")),
        "{}",
        refused.stdout
    );
    assert_eq!(refused.json()["header"], json!(null));
    let flagged = Image::new();
    flagged.cryptsetup(&["config", "--label=x"]);
    let plain = flagged.run("inspect", &[]);
    assert!(plain.stdout.contains("label: x"), "{}", plain.stdout);
}
