//! Keyslots that a token names but no boot tries: refused before a secret or a key is requested, and final.

use serde_json::{Value, json};

use crate::support::encoding::base64;
use crate::support::forge::{Field, Forge};
use crate::support::image::Image;
use crate::support::kbs::{Kbs, Pki};
use crate::support::machine::{SOME_ESP, add_disk, configured, extended_once, report, unlock};
use crate::support::owner;
use crate::support::swtpm::Swtpm;
use crate::support::tools::attestation_key;

/// The failure's slug, and how often the key broker was asked, for a volume whose JSON was edited by
/// `change`. It has a token for the TPM (0, whose PCR 11 differs) and one for a key broker (1). No boot tries
/// keyslot 0.
fn outcome(change: impl Fn(&mut Value)) -> (String, usize) {
    let (tpm, image, pki) = (Swtpm::new(), Image::new(), Pki::new());
    image.enroll(&tpm, "7+11");
    let document = image.key_file().with_file_name("document");
    let kbs = format!("--kbs={}", document.display());
    let key = format!("--unlock-key-file={}", image.key_file().display());
    let run = image.run("enroll", &[key.as_str(), kbs.as_str()]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let document = std::fs::read(document).unwrap();
    let volume = std::fs::read(image.path()).unwrap();
    let uuid = Forge::of(&volume).primary.field(Field::Uuid);
    let path = format!("default/disk/{}", String::from_utf8(uuid).unwrap().trim_end_matches('\0'));
    let broker = Kbs::new(
        &pki,
        &json!({
            "registered_aks": [attestation_key(&tpm).ak_public],
            "pcrs": {"11": [tpm.pcr(11), extended_once("another kernel")], "15": ["0".repeat(64)]},
            "resources": {path: base64(&document)}
        }),
    );
    let mut config = owner::config();
    config["kbs"] = json!({
        "servers": [{"url": broker.url(), "ca": pki.pem("ca")}],
        "resource": "default/disk/{uuid}",
        "connect_timeout_seconds": 30
    });
    let tree = configured(config);
    let forged = Forge::of(&volume).json(|json| {
        json["keyslots"]["0"]["kdf"]["hash"] = json!("sha1");
        change(json);
    });
    add_disk(&tree, "vda", 0, &forged.volume(), SOME_ESP);
    let _fails = unlock(&tree, &tpm, &[]);
    let slug = report(&tree)["failure"]["slug"].as_str().unwrap_or_default().to_owned();
    (slug, broker.count("/kbs/v0/auth"))
}

#[test]
fn a_refused_keyslot_is_final() {
    let (slug, asked) = outcome(|json| json["tokens"]["0"]["keyslots"] = json!(["0"]));
    assert_eq!((slug.as_str(), asked), ("luks-hash", 0));
}

#[test]
fn a_refused_keyslot_is_final_beside_a_token_that_unseals_without_its_proof() {
    for first in [false, true] {
        let (slug, asked) = outcome(|json| {
            let mut odd = json["tokens"]["0"].clone();
            odd["keyslots"] = json!(["0"]);
            let mut unbound = json["tokens"]["0"].clone();
            unbound.as_object_mut().unwrap().remove("cvm-unlock");
            let (zero, two) = if first { (odd, unbound) } else { (unbound, odd) };
            (json["tokens"]["0"], json["tokens"]["2"]) = (zero, two);
        });
        assert_eq!(asked, 0, "{slug}, the refused keyslot first: {first}");
    }
}

#[test]
fn a_keyslot_of_a_token_that_is_not_ours_to_try_keeps_nobody_from_being_asked() {
    let (slug, asked) = outcome(|json| {
        let mut pin = json["tokens"]["0"].clone();
        json["tokens"]["0"]["tpm2-pin"] = json!(true);
        pin["keyslots"] = json!(["0"]);
        pin["tpm2-pin"] = json!(true);
        json["tokens"]["2"] = pin;
    });
    assert_eq!(asked, 1, "{slug}");
}

#[test]
fn no_key_is_asked_for_that_would_open_a_refused_keyslot() {
    let (slug, asked) = outcome(|json| {
        let keyslot = json["tokens"]["1"]["keyslots"][0].as_str().unwrap().to_owned();
        json["keyslots"][&keyslot]["kdf"]["hash"] = json!("sha1");
        json["tokens"]["0"]["tpm2-pin"] = json!(true);
    });
    assert_eq!((slug.as_str(), asked), ("luks-hash", 0));
}
