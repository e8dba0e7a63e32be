//! Remote attestation as the second way to a key: when a key broker is asked, when none is, and what a
//! released key must open. The key broker verifies, the TPM is emulated, and the unlock goes as far as the
//! mapping, which fails here.

use serde_json::{Value, json};

use crate::support::encoding::base64;
use crate::support::executable::Run;
use crate::support::forge::{Field, Forge};
use crate::support::image::Image;
use crate::support::kbs::{Kbs, Pki};
use crate::support::machine::{OTHER_ESP, SOME_ESP, add_disk, configured, extended_once, report, unlock};
use crate::support::owner;
use crate::support::swtpm::Swtpm;
use crate::support::tools::attestation_key;
use crate::support::tree::Tree;

const FAILED: &str = "cvm-unlock:failed";

/// A volume that its TPM opens in one state, and a key broker in that and another one.
struct Fixture {
    pki: Pki,
    tpm: Swtpm,
    image: Image,
    document: Vec<u8>,
}

/// A UUID that no enrolled volume has.
const OTHER_UUID: &[u8] = b"6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1";
/// A kernel other than the enrolled one.
const UPDATE: &str = "another kernel";

impl Fixture {
    fn new() -> Self {
        Self::enrolled(&[])
    }

    fn enrolled(options: &[&str]) -> Self {
        let (tpm, image) = (Swtpm::new(), Image::new());
        image.enroll(&tpm, "7+11");
        let document = image.key_file().with_file_name("document");
        let kbs = format!("--kbs={}", document.display());
        let key = format!("--unlock-key-file={}", image.key_file().display());
        let run = image.run("enroll", &[&[key.as_str(), kbs.as_str()], options].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        let document = std::fs::read(document).unwrap();
        Self { pki: Pki::new(), tpm, image, document }
    }

    /// Boots a kernel other than the enrolled one.
    fn reboot_into_update(&mut self) {
        self.tpm.reboot();
        self.tpm.extend(11, UPDATE);
    }

    fn path(&self) -> String {
        let uuid = Forge::of(&self.volume()).primary.field(Field::Uuid);
        format!("default/disk/{}", String::from_utf8(uuid).unwrap().trim_end_matches('\0'))
    }

    fn volume(&self) -> Vec<u8> {
        std::fs::read(self.image.path()).unwrap()
    }

    /// A key broker that accepts the enrolled state and `UPDATE`.
    fn broker(&self, change: impl FnOnce(&mut Value)) -> Kbs {
        let before = self.tpm.pcr(11);
        let after = extended_once(UPDATE);
        let mut config = json!({
            "registered_aks": [attestation_key(&self.tpm).ak_public],
            "pcrs": {"11": [before, after], "15": ["0".repeat(64)]},
            "resources": {self.path(): base64(&self.document)}
        });
        change(&mut config);
        Kbs::new(&self.pki, &config)
    }

    fn configuration(&self, broker: &Kbs) -> Value {
        let mut config = owner::config();
        config["kbs"] = json!({
            "servers": [{"url": broker.url(), "ca": self.pki.pem("ca")}],
            "resource": "default/disk/{uuid}",
            "connect_timeout_seconds": 30
        });
        config
    }

    /// A machine with this volume as its root.
    fn machine(&self, broker: &Kbs, volume: &[u8]) -> Tree {
        self.machine_with(broker, volume, |_| ())
    }

    fn machine_with(&self, broker: &Kbs, volume: &[u8], change: impl FnOnce(&mut Value)) -> Tree {
        let mut config = self.configuration(broker);
        change(&mut config);
        let tree = configured(config);
        add_disk(&tree, "vda", 0, volume, SOME_ESP);
        tree
    }

    /// Checks that the unlock fails only at the mapping; returns the report.
    fn opens(&self, tree: &Tree) -> Value {
        let run = unlock(tree, &self.tpm, &[]);
        let report = report(tree);
        assert_eq!(report["failure"]["slug"], "mapping-failed", "{report}\n{}", run.stderr);
        self.tpm.holds_nothing();
        report
    }

    /// Checks that it is refused with this slug, and fenced.
    #[track_caller]
    fn is_refused(&self, tree: &Tree, slug: &str) -> Value {
        let run = unlock(tree, &self.tpm, &[]);
        let report = report(tree);
        assert_eq!(report["failure"]["slug"], slug, "{report}\n{}", run.stderr);
        assert_eq!(self.tpm.pcr(15), extended_once(FAILED));
        self.tpm.holds_nothing();
        report
    }
}

#[test]
fn where_the_tpm_opens_the_volume_nobody_else_is_asked() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    let report = fixture.opens(&fixture.machine(&broker, &fixture.volume()));
    assert_eq!(report["volume"]["policy"]["kind"], "literal");
    assert_eq!(report["volume"]["attestation"], Value::Null);
    assert!(broker.log().is_empty(), "{:?}", broker.log());
    let stages = report["stages"].as_array().unwrap();
    assert!(stages.iter().all(|stage| stage["stage"] != "network" && stage["stage"] != "attest"), "{report}");
}

#[test]
fn after_an_update_a_key_broker_gives_the_key_and_the_fence_is_as_ever() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(11, UPDATE);
    let tree = fixture.machine(&broker, &fixture.volume());
    let report = fixture.opens(&tree);
    let volume = &report["volume"];
    assert_eq!(volume["attestation"]["server"], broker.url());
    assert_eq!(volume["attestation"]["resource"], fixture.path());
    assert_eq!(
        (&volume["attestation"]["tee"], &volume["proof"]["binding"]),
        (&json!("tpm"), &json!("verified"))
    );
    assert_eq!(volume["proof"]["authenticity"], "key-broker");
    assert_eq!(report["refused_tokens"][0]["slug"], "pcr-mismatch");
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning["slug"] == "unlocked-by-attestation"), "{report}");
    let paths: Vec<_> = broker.log().iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, ["/kbs/v0/auth", "/kbs/v0/attest", &format!("/kbs/v0/resource/{}", fixture.path())]);
    // Fenced with the volume key and, since the mapping failed, with the failure: nothing is released any
    // more.
    let again = unlock(&tree, &fixture.tpm, &[]);
    assert_eq!(
        crate::support::machine::report(&tree)["failure"]["slug"],
        "pcr15-not-zero",
        "{}",
        again.stderr
    );
    assert_eq!(broker.count("/kbs/v0/auth"), 1);
}

#[test]
fn the_owners_signature_vouches_for_an_attested_volume_too() {
    let image = Image::new();
    let sign = format!("--sign-key={}", image.owner_key().display());
    let fixture = Fixture::enrolled(&[&sign]);
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(11, UPDATE);
    let report = fixture.opens(&fixture.machine(&broker, &fixture.volume()));
    assert_eq!(report["volume"]["proof"]["authenticity"], "owner-signature");
}

#[test]
fn where_a_key_broker_vouches_for_nothing_the_owner_has_to() {
    let strict = |config: &mut Value| config["authentic"]["key_broker"] = json!(false);
    let unsigned = Fixture::new();
    let broker = unsigned.broker(|_| ());
    unsigned.tpm.extend(11, UPDATE);
    let tree = unsigned.machine_with(&broker, &unsigned.volume(), strict);
    unsigned.is_refused(&tree, "volume-unauthenticated");
    let image = Image::new();
    let signed = Fixture::enrolled(&[&format!("--sign-key={}", image.owner_key().display())]);
    let broker = signed.broker(|_| ());
    signed.tpm.extend(11, UPDATE);
    let report = signed.opens(&signed.machine_with(&broker, &signed.volume(), strict));
    assert_eq!(report["volume"]["proof"]["authenticity"], "owner-signature");
}

#[test]
fn a_denial_ends_the_boot() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|config| config["pcrs"]["11"] = json!(["0".repeat(64)]));
    fixture.tpm.extend(11, UPDATE);
    let report = fixture.is_refused(&fixture.machine(&broker, &fixture.volume()), "kbs-denied");
    assert_eq!(report["refused_volumes"][0]["slug"], "kbs-denied");
    assert_eq!(broker.count("/kbs/v0/attest"), 1);
}

#[test]
fn without_a_token_for_it_no_key_broker_is_asked() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    let forged = Forge::of(&fixture.volume()).json(|json| {
        json["tokens"].as_object_mut().unwrap().remove("1").unwrap();
    });
    fixture.tpm.extend(11, UPDATE);
    fixture.is_refused(&fixture.machine(&broker, &forged.volume()), "pcr-mismatch");
    assert!(broker.log().is_empty());
}

#[test]
fn a_host_that_lies_about_the_header_gets_no_attestation() {
    let mut fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    for (pointer, value, slug) in [
        ("/keyslots/1/area/encryption", json!("cipher_null-ecb"), "luks-cipher-null"),
        ("/config/flags", json!(["no-read-workqueue"]), "luks-flag"),
    ] {
        let forged = Forge::of(&fixture.volume()).set(pointer, &value);
        fixture.tpm.extend(11, UPDATE);
        fixture.is_refused(&fixture.machine(&broker, &forged.volume()), slug);
        fixture.tpm.reboot();
    }
    // The TPM releases the secret, but the metadata is not what was bound to it.
    let forged = Forge::of(&fixture.volume()).field(Field::Uuid, OTHER_UUID);
    fixture.is_refused(&fixture.machine(&broker, &forged.volume()), "binding-violated");
    assert!(broker.log().is_empty(), "{:?}", broker.log());
    fixture.reboot_into_update();
    fixture.opens(&fixture.machine(&broker, &fixture.volume()));
}

#[test]
fn a_boot_that_is_fenced_already_gets_no_attestation() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(15, "a volume key");
    let tree = fixture.machine(&broker, &fixture.volume());
    unlock(&tree, &fixture.tpm, &[]);
    assert_eq!(report(&tree)["failure"]["slug"], "pcr15-not-zero");
    assert!(broker.log().is_empty());
}

#[test]
fn an_edited_header_violates_the_binding_of_an_attested_key_too() {
    let mut fixture = Fixture::new();
    let uuid = "6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1";
    let path = format!("default/disk/{uuid}");
    let broker = fixture.broker(|config| config["resources"][path] = json!(base64(&fixture.document)));
    let forged = Forge::of(&fixture.volume()).field(Field::Uuid, uuid.as_bytes());
    fixture.tpm.extend(11, UPDATE);
    fixture.is_refused(&fixture.machine(&broker, &forged.volume()), "binding-violated");
    assert_eq!(broker.count("/kbs/v0/auth"), 1);
    fixture.reboot_into_update();
    fixture.opens(&fixture.machine(&broker, &fixture.volume()));
}

#[test]
fn the_key_of_another_volume_opens_nothing() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let path = fixture.path();
    let broker = fixture.broker(|config| config["resources"][&path] = json!(base64(&other.document)));
    fixture.tpm.extend(11, UPDATE);
    fixture.is_refused(&fixture.machine(&broker, &fixture.volume()), "keyslot-not-opened");
}

#[test]
fn a_key_document_that_names_another_volume_key_opens_nothing() {
    let fixture = Fixture::new();
    let mut document: Value = serde_json::from_slice(&fixture.document).unwrap();
    document["volume_key"] = json!("5a".repeat(32));
    let path = fixture.path();
    let broker =
        fixture.broker(|config| config["resources"][&path] = json!(base64(document.to_string().as_bytes())));
    fixture.tpm.extend(11, UPDATE);
    fixture.is_refused(&fixture.machine(&broker, &fixture.volume()), "broker-names-another-volume");
}

#[test]
fn a_bare_passphrase_binds_nothing_and_opens_only_where_the_configuration_says_so() {
    let mut fixture = Fixture::new();
    let path = fixture.path();
    let passphrase = base64(Image::PASSPHRASE.as_bytes());
    let broker = fixture.broker(|config| config["resources"][&path] = json!(passphrase));
    let forged = Forge::of(&fixture.volume())
        .json(|json| json["tokens"]["1"] = json!({"type": "cvm-unlock-kbs", "keyslots": ["0"]}));
    fixture.tpm.extend(11, UPDATE);
    fixture.is_refused(&fixture.machine(&broker, &forged.volume()), "binding-missing");
    fixture.reboot_into_update();
    let lenient = |config: &mut Value| config["policy"] = json!({"require_binding": false});
    let report = fixture.opens(&fixture.machine_with(&broker, &forged.volume(), lenient));
    assert_eq!(report["volume"]["proof"]["binding"], "absent");
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning["slug"] == "binding-missing"), "{report}");
}

#[test]
fn a_token_leads_to_no_other_repository_or_type() {
    let mut fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(11, UPDATE);
    for path in ["default/key/somebody-elses", "other/disk/somebody-elses"] {
        let forged = Forge::of(&fixture.volume()).set("/tokens/1/path", &json!(path));
        fixture.is_refused(&fixture.machine(&broker, &forged.volume()), "kbs-path-refused");
        fixture.reboot_into_update();
    }
    assert!(broker.log().is_empty());
    // A token may choose below the configured repository and type.
    let path = "default/disk/elsewhere";
    let broker = fixture.broker(|config| config["resources"] = json!({path: base64(&fixture.document)}));
    let moved = Forge::of(&fixture.volume()).set("/tokens/1/path", &json!(path));
    let report = fixture.opens(&fixture.machine(&broker, &moved.volume()));
    assert_eq!(report["volume"]["attestation"]["resource"], path);
}

#[test]
fn volumes_full_of_tokens_do_not_buy_endless_handshakes_and_keep_none_of_ours_shut() {
    let mut fixture = Fixture::new();
    let nothing = fixture.broker(|config| config["resources"] = json!({}));
    let full = Forge::of(&fixture.volume()).json(|json| {
        let token = json["tokens"]["1"].clone();
        (2..32).for_each(|number| json["tokens"][number.to_string()] = token.clone());
    });
    fixture.tpm.extend(11, UPDATE);
    let report = fixture.is_refused(&fixture.machine(&nothing, &full.volume()), "kbs-resource-missing");
    assert_eq!(nothing.count("/kbs/v0/auth"), 2);
    assert_eq!(report["refused_tokens"].as_array().unwrap().last().unwrap()["slug"], "kbs-keys-too-many");
    fixture.reboot_into_update();
    let broker = fixture.broker(|_| ());
    let strangers = full.set("/tokens/1/path", &json!("default/disk/nobodys")).field(Field::Uuid, OTHER_UUID);
    let tree = fixture.machine(&broker, &strangers.volume());
    add_disk(&tree, "vdb", 16, &fixture.volume(), OTHER_ESP);
    fixture.opens(&tree);
    assert_eq!(broker.count("/kbs/v0/auth"), 3);
}

#[test]
fn a_strangers_volume_does_not_keep_the_key_broker_from_opening_ours() {
    let (fixture, stranger) = (Fixture::new(), Fixture::new());
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(11, UPDATE);
    let tree = fixture.machine(&broker, &stranger.volume());
    add_disk(&tree, "vdb", 16, &fixture.volume(), OTHER_ESP);
    let report = fixture.opens(&tree);
    assert!(report["volume"]["device"].as_str().unwrap().ends_with("dev/vdb2"), "{report}");
    assert_eq!(report["refused_volumes"][0]["slug"], "kbs-resource-missing");
    let missing = |token: &&Value| token["slug"] == "kbs-resource-missing";
    let refused = report["refused_tokens"].as_array().unwrap().iter().find(missing).unwrap();
    assert_eq!(refused["device"], report["refused_volumes"][0]["device"], "{report}");
}

#[test]
fn a_key_broker_in_trouble_does_not_keep_the_tpm_from_opening_a_disk_that_comes_later() {
    let (fixture, stranger) = (Fixture::new(), Fixture::new());
    let broker = fixture.broker(|config| config["faults"] = json!({"auth": "trouble"}));
    let tree = fixture.machine_with(&broker, &stranger.volume(), |config| {
        config["kbs"]["deadline_seconds"] = json!(4);
    });
    let later = Tree::new();
    add_disk(&later, "vdb", 16, &fixture.volume(), OTHER_ESP);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            while broker.log().is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            tree.take_disks(&later);
        });
        fixture.opens(&tree)
    });
    assert!(report["volume"]["device"].as_str().unwrap().ends_with("dev/vdb2"), "{report}");
    assert_eq!(report["refused_volumes"][0]["slug"], "kbs-trouble");
    assert_eq!(report["volume"]["attestation"], Value::Null);
}

#[test]
fn a_copy_of_the_disk_is_refused_as_ambiguous_by_a_key_broker_too() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(11, UPDATE);
    let tree = fixture.machine(&broker, &fixture.volume());
    add_disk(&tree, "vdb", 16, &fixture.volume(), OTHER_ESP);
    fixture.is_refused(&tree, "root-ambiguous");
}

#[test]
fn a_dry_run_says_that_a_boot_would_ask_and_asks_nobody() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(11, UPDATE);
    let tree = fixture.machine(&broker, &fixture.volume());
    let run: Run = unlock(&tree, &fixture.tpm, &["--dry-run"]);
    assert_eq!(run.slug(), "pcr-mismatch");
    let report = run.json();
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning["slug"] == "would-attest"), "{report}");
    assert!(broker.log().is_empty());
    assert_eq!(fixture.tpm.pcr(15), "0".repeat(64));
}

#[test]
fn neither_log_nor_report_of_an_attested_unlock_holds_the_secret() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(11, UPDATE);
    let tree = fixture.machine(&broker, &fixture.volume());
    let run = unlock(&tree, &fixture.tpm, &[]);
    let document: Value = serde_json::from_slice(&fixture.document).unwrap();
    let secret = document["secret"].as_str().unwrap();
    let report = report(&tree).to_string();
    assert!(report.contains("key-broker"));
    for text in [&run.stdout, &run.stderr, &report] {
        assert!(!text.contains(secret) && !text.contains(&secret[..16]), "{text}");
    }
}
