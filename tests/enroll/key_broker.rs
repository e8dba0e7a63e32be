//! `enroll --kbs` as shipped, on image files: the key document opens the volume with cryptsetup, and the new
//! header keeps its promises.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use cvm_unlock::attest::Delivered;
use cvm_unlock::base::error::Error;
use cvm_unlock::base::secret::Secret;
use cvm_unlock::format::luks::{FlagSet, Snapshot};
use cvm_unlock::format::owner_key::PublicKey;
use cvm_unlock::format::token::key_broker::KeyBrokerToken;
use cvm_unlock::provision::broker_key;
use serde_json::{Value, json};

use crate::support::encoding::{from_base64, hex};
use crate::support::executable::{self, Run, option};
use crate::support::image::Image;
use crate::support::owner;
use crate::support::swtpm::Swtpm;
use crate::support::tool::run_ok;

/// A volume, and a place for key documents.
struct Fixture {
    image: Image,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { image: Image::new(), folder: tempfile::tempdir().unwrap() }
    }

    fn document(&self) -> PathBuf {
        self.folder.path().join("document.json")
    }

    /// Enrols without a TPM.
    fn try_enroll(&self, options: &[&str]) -> Run {
        let key = format!("--unlock-key-file={}", self.image.key_file().display());
        let kbs = format!("--kbs={}", self.document().display());
        self.image.run("enroll", &[&[key.as_str(), &kbs, "--tpm2-device=/nonexistent"], options].concat())
    }

    fn enroll(&self, options: &[&str]) -> Value {
        let run = self.try_enroll(&[&["--json"], options].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.json()
    }

    fn sign(&self) -> String {
        format!("--sign-key={}", self.image.owner_key().display())
    }

    fn read(&self) -> Value {
        serde_json::from_slice(&fs::read(self.document()).unwrap()).unwrap()
    }

    fn secret(&self) -> String {
        self.read()["secret"].as_str().unwrap().to_owned()
    }

    /// What the trial of an enrolment says about the volume in its present state.
    fn checked(&self, resource: &[u8], owner: Option<&PublicKey>) -> Result<(), Error> {
        let bytes = fs::read(self.image.path()).unwrap();
        let size = u64::try_from(bytes.len()).unwrap();
        let snapshot = Snapshot::read(&bytes, size, 512, &FlagSet::default())?;
        let (id, token) = snapshot.tokens().iter().next().expect("a token");
        let token = KeyBrokerToken::parse(*id, token)?;
        let delivered = Delivered::parse(&Secret::copy_of(resource))?;
        broker_key::check(&token, &delivered, &snapshot, &bytes, owner)
    }
}

fn owner() -> PublicKey {
    PublicKey::from_pem(owner::PUBLIC_KEY).unwrap()
}

#[test]
fn the_documents_secret_opens_the_keyslot_by_cryptsetups_hand_and_needs_no_tpm() {
    let fixture = Fixture::new();
    let enrolled = fixture.enroll(&[&fixture.sign(), "--kbs-path=default/disk/root"]);
    let slot = &enrolled["kbs"];
    assert_eq!(
        (&slot["keyslot"], &slot["token"], &slot["resource"]),
        (&json!(1), &json!(0), &json!("default/disk/root"))
    );
    assert_eq!(slot["document"], *fixture.document().to_str().unwrap());
    let passphrase = fixture.folder.path().join("passphrase");
    fs::write(&passphrase, fixture.secret()).unwrap();
    let (image, passphrase) = (fixture.image.path(), passphrase.display().to_string());
    let opened = run_ok(
        "cryptsetup",
        &["open", "--test-passphrase", "--verbose", "--key-file", &passphrase, image.to_str().unwrap()],
    );
    assert!(opened.contains("Key slot 1 unlocked"), "{opened}");
    assert!(fixture.image.opens_with(Image::PASSPHRASE), "the older key still opens");
    assert!(!fixture.image.opens_with(&fixture.secret()[1..]), "not any key does");
}

#[test]
fn the_document_is_its_owners_alone_and_pins_the_volume_key() {
    let fixture = Fixture::new();
    let enrolled = fixture.enroll(&[]);
    assert_eq!(fs::metadata(fixture.document()).unwrap().permissions().mode() & 0o7777, 0o600);
    let document = fixture.read();
    let mut members: Vec<_> = document.as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["cvm-unlock", "secret", "volume_key"]);
    assert_eq!((&document["cvm-unlock"], &document["volume_key"]), (&json!(1), &enrolled["volume_key"]));
    assert_eq!(fixture.secret().len(), 44);
    // Another enrolment has another secret.
    let first = fixture.secret();
    fs::remove_file(fixture.document()).unwrap();
    fixture.enroll(&[]);
    assert_ne!(fixture.secret(), first);
}

#[test]
fn the_token_is_what_the_contract_says_and_other_tools_accept_the_header() {
    let fixture = Fixture::new();
    let enrolled = fixture.enroll(&[&fixture.sign(), "--kbs-path=default/disk/root"]);
    let metadata = fixture.image.metadata();
    let token = &metadata["tokens"]["0"];
    assert_eq!((&token["type"], &token["keyslots"]), (&json!("cvm-unlock-kbs"), &json!(["1"])));
    assert_eq!(token["path"], "default/disk/root");
    let mut members: Vec<_> = token["cvm-unlock"].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["binding", "signature", "signer", "version"]);
    assert_eq!(token["cvm-unlock"]["signer"], enrolled["kbs"]["signer"]);
    assert_eq!(metadata["keyslots"]["1"]["kdf"]["iterations"], 1000);
    fixture.image.repair_finds_nothing();
    let image = fixture.image.path();
    let dumped = run_ok("cryptsetup", &["luksDump", image.to_str().unwrap()]);
    assert!(dumped.contains("0: cvm-unlock-kbs"), "{dumped}");
    // systemd-cryptenroll lists what it finds, and adds to it.
    let listed = run_ok("systemd-cryptenroll", &[image.to_str().unwrap()]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    // Without a path in the token, the configuration decides.
    let other = Fixture::new();
    other.enroll(&[]);
    let token = other.image.metadata()["tokens"]["0"].clone();
    assert!(token.get("path").is_none() && token["cvm-unlock"].get("signer").is_none(), "{token}");
}

#[test]
fn a_document_that_is_there_already_is_left_untouched_and_nothing_is_enrolled() {
    let fixture = Fixture::new();
    let before = fs::read(fixture.image.path()).unwrap();
    fs::write(fixture.document(), "the document of another volume").unwrap();
    for options in [&[][..], &["--recovery-key"]] {
        let refused = fixture.try_enroll(options);
        assert!(refused.code == 64 && refused.stderr.contains("[key-document-exists]"), "{}", refused.stderr);
        assert!(refused.stdout.is_empty(), "a recovery key was shown: {}", refused.stdout);
    }
    assert_eq!(fs::read(fixture.document()).unwrap(), b"the document of another volume");
    // A link is not followed either.
    fs::remove_file(fixture.document()).unwrap();
    std::os::unix::fs::symlink(fixture.folder.path().join("elsewhere"), fixture.document()).unwrap();
    assert!(fixture.try_enroll(&[]).stderr.contains("[key-document-exists]"));
    assert!(!fixture.folder.path().join("elsewhere").exists());
    fs::remove_file(fixture.document()).unwrap();
    // Nothing is written if the folder does not exist.
    let nowhere = format!("--kbs={}", fixture.folder.path().join("no/where").display());
    let refused = fixture.try_enroll(&[&nowhere]);
    assert!(
        refused.code == 71 && refused.stderr.contains("[key-document-not-written]"),
        "{}",
        refused.stderr
    );
    assert!(fs::read(fixture.image.path()).unwrap() == before, "the volume was written to");
    fixture.enroll(&[]);
}

#[test]
fn a_wrong_key_enrols_nothing_and_leaves_no_document() {
    let fixture = Fixture::new();
    let before = fs::read(fixture.image.path()).unwrap();
    fs::write(fixture.image.key_file(), "battery staple").unwrap();
    let refused = fixture.try_enroll(&[]);
    assert!(refused.code == 77 && refused.stderr.contains("[key-wrong]"), "{}", refused.stderr);
    assert!(!fixture.document().exists());
    assert!(fs::read(fixture.image.path()).unwrap() == before, "the volume was written to");
    fs::write(fixture.image.key_file(), Image::PASSPHRASE).unwrap();
    fixture.enroll(&[]);
}

#[test]
fn a_volume_that_cannot_be_written_leaves_a_document_and_says_that_it_is_of_no_use() {
    let fixture = Fixture::new();
    // Like a disk that fails at the first write.
    let run = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-P", fixture.image.path().to_str().unwrap()])
        .args(["-e", "inject=pwrite64:error=EIO:when=1"])
        .arg(executable::path())
        .args(["enroll", fixture.image.path().to_str().unwrap()])
        .arg(format!("--unlock-key-file={}", fixture.image.key_file().display()))
        .arg(format!("--kbs={}", fixture.document().display()))
        .output()
        .expect("strace");
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(71), "{said}");
    assert!(said.contains("[volume-io]") && said.contains("document.json is of no use"), "{said}");
    assert!(!fixture.image.opens_with(&fixture.secret()) && fixture.image.opens_with(Image::PASSPHRASE));
}

#[test]
fn an_edited_header_violates_its_binding_and_the_restored_one_holds() {
    let fixture = Fixture::new();
    fixture.enroll(&[&fixture.sign()]);
    let document = fs::read(fixture.document()).unwrap();
    let good = fs::read(fixture.image.path()).unwrap();
    fixture.checked(&document, Some(&owner())).unwrap_or_else(|error| panic!("{error}"));
    fixture.image.change_uuid();
    assert_eq!(slug(fixture.checked(&document, Some(&owner()))), "binding-violated");
    fs::write(fixture.image.path(), good).unwrap();
    fixture.checked(&document, Some(&owner())).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_token_or_a_document_that_was_tampered_with_is_refused_each_by_its_name() {
    let fixture = Fixture::new();
    fixture.enroll(&[&fixture.sign()]);
    let (document, token) = (fixture.read(), fixture.image.metadata()["tokens"]["0"].clone());
    let said = |document: &Value| fixture.checked(document.to_string().as_bytes(), Some(&owner()));
    let with = |base: &Value, pointer: &str, value: Value| {
        let mut changed = base.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    assert!(said(&document).is_ok());
    // What the key broker delivers.
    let other = "A".repeat(43) + "=";
    assert_eq!(slug(said(&with(&document, "/secret", json!(other)))), "keyslot-not-opened");
    assert_eq!(
        slug(said(&with(&document, "/volume_key", json!("5a".repeat(32))))),
        "broker-names-another-volume"
    );
    assert_eq!(slug(said(&with(&document, "/cvm-unlock", json!(2)))), "kbs-key-document");
    let bare = fixture.secret();
    assert_eq!(slug(fixture.checked(bare.as_bytes(), None)), "binding-missing", "a passphrase binds nothing");
    // What the host writes.
    let zeros = "A".repeat(43) + "=";
    for (changed, expected) in [
        (with(&token, "/cvm-unlock/binding", json!(zeros)), "binding-violated"),
        (with(&token, "/cvm-unlock/signature", json!("MAA=")), "owner-signature-invalid"),
        (with(&token, "/cvm-unlock/signer", json!("5a".repeat(32))), "owner-unknown"),
        (with(&token, "/keyslots", json!(["0"])), "keyslot-not-opened"),
    ] {
        fixture.image.replace_token("0", &changed);
        assert_eq!(slug(said(&document)), expected, "{changed}");
    }
    fixture.image.replace_token("0", &token);
    assert!(said(&document).is_ok());
}

#[test]
fn neither_output_nor_logs_hold_the_secret() {
    let fixture = Fixture::new();
    let mut runs = vec![fixture.try_enroll(&["--json"])];
    let mut secrets = vec![fixture.secret()];
    fs::remove_file(fixture.document()).unwrap();
    runs.push(fixture.try_enroll(&[&fixture.sign(), "--kbs-path=default/disk/root"]));
    secrets.push(fixture.secret());
    runs.push(fixture.try_enroll(&[]));
    runs.push(fixture.image.run("inspect", &[]));
    let header = fs::read(fixture.image.path()).unwrap();
    for secret in &secrets {
        let raw = from_base64(secret);
        for run in &runs {
            let shown = run.stdout.clone() + &run.stderr;
            let digits = hex(&raw);
            assert!(!shown.contains(&secret[..12]) && !shown.contains(&digits[..12]), "{shown}");
        }
        let contains = |needle: &[u8]| header.windows(needle.len()).any(|window| window == needle);
        assert!(!contains(&raw) && !contains(secret.as_bytes()), "the secret is on the disk");
    }
}

#[test]
fn people_are_told_the_keyslot_the_token_and_how_to_upload_the_document() {
    let fixture = Fixture::new();
    let uuid =
        fixture.image.run("inspect", &["--json"]).json()["header"]["luks_uuid"].as_str().unwrap().to_owned();
    let document = fixture.document().display().to_string();
    let run = fixture.try_enroll(&[]);
    assert!(
        run.stdout.contains("keyslot 1 and token 0 opened by what a key broker delivers"),
        "{}",
        run.stdout
    );
    let upload = format!("kbs-client ... set-resource --path default/disk/{uuid} --resource-file {document}");
    assert!(run.stdout.contains(&upload), "{}", run.stdout);
    // The image's configuration overrides it.
    let server = json!({"url": "https://kbs.example", "spki": "00".repeat(32)});
    let config = fixture.folder.path().join("config.json");
    fs::write(&config, json!({"kbs": {"servers": [server], "resource": "fleet/root/vm-{uuid}"}}).to_string())
        .unwrap();
    let config = format!("--config={}", config.display());
    fs::remove_file(fixture.document()).unwrap();
    let enrolled = fixture.enroll(&[&config]);
    assert_eq!(enrolled["kbs"]["resource"], format!("fleet/root/vm-{uuid}"));
    assert_eq!(enrolled["warnings"], json!([]));
    fs::remove_file(fixture.document()).unwrap();
    let elsewhere = fixture.enroll(&[&config, "--kbs-path=default/disk/root"]);
    assert_eq!(elsewhere["warnings"][0]["slug"], "kbs-path-elsewhere");
}

#[test]
fn inspect_shows_the_token_and_refuses_a_broken_one_by_name() {
    let fixture = Fixture::new();
    let enrolled = fixture.enroll(&[&fixture.sign(), "--kbs-path=default/disk/root"]);
    let token = fixture.image.run("inspect", &["--json"]).json()["header"]["tokens"]["0"].clone();
    assert_eq!((&token["type"], &token["kind"]), (&json!("cvm-unlock-kbs"), &json!("key-broker")));
    assert_eq!((&token["keyslots"], &token["path"]), (&json!([1]), &json!("default/disk/root")));
    assert_eq!((&token["bound"], &token["signer"]), (&json!(true), &enrolled["kbs"]["signer"]));
    let shown = fixture.image.run("inspect", &[]).stdout;
    let signer = enrolled["kbs"]["signer"].as_str().unwrap();
    let line =
        format!("cvm-unlock-kbs for keyslot 1; key-broker; default/disk/root; bound; signed by {signer}");
    assert!(shown.contains(&line) && !shown.contains("PCR 15"), "{shown}");
    let mut broken = fixture.image.metadata()["tokens"]["0"].clone();
    broken["path"] = json!("");
    fixture.image.replace_token("0", &broken);
    let token = fixture.image.run("inspect", &["--json"]).json()["header"]["tokens"]["0"].clone();
    assert_eq!(token["refused"], "token-path");
}

#[test]
fn one_run_seals_to_the_tpm_enrols_for_a_broker_adds_a_recovery_key_and_wipes_the_old_ones() {
    let (fixture, tpm) = (Fixture::new(), Swtpm::new());
    fixture.enroll(&[]);
    let first = fixture.secret();
    fs::remove_file(fixture.document()).unwrap();
    let kbs = format!("--kbs={}", fixture.document().display());
    let options = ["--tpm2-pcrs=4+7", &fixture.sign(), &kbs, "--recovery-key", "--wipe-slot=password,kbs"];
    let run = fixture.image.enroll_with(&tpm, &options);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let enrolled = run.json();
    assert_eq!(enrolled["wiped"], json!([0, 1]));
    assert!(fixture.image.opens_with(&fixture.secret()) && !fixture.image.opens_with(&first));
    assert!(fixture.image.opens_with(enrolled["recovery_key"].as_str().unwrap()));
    assert!(!fixture.image.opens_with(Image::PASSPHRASE));
    assert_eq!(fixture.image.dry_run(&tpm).code, 0, "the TPM's token opens beside the other");
    assert_ne!(enrolled["keyslot"], enrolled["kbs"]["keyslot"]);
    fixture.image.repair_finds_nothing();
}

#[test]
fn the_new_keyslot_has_proved_itself_and_may_become_the_only_one() {
    let fixture = Fixture::new();
    let enrolled = fixture.enroll(&["--wipe-slot=all"]);
    assert_eq!(enrolled["wiped"], json!([0]));
    assert!(fixture.image.opens_with(&fixture.secret()) && !fixture.image.opens_with(Image::PASSPHRASE));
    // From here on this keyslot is the way in, and is not wiped as the last one.
    fs::write(fixture.image.key_file(), fixture.secret()).unwrap();
    let key = format!("--unlock-key-file={}", fixture.image.key_file().display());
    let refused = fixture.image.run("enroll", &[&key, "--wipe-slot=kbs"]);
    assert!(refused.stderr.contains("[wipe-last-way-in]"), "{}", refused.stderr);
}

#[test]
fn a_volume_whose_tpm_opens_it_needs_no_key_file() {
    let (fixture, tpm) = (Fixture::new(), Swtpm::new());
    fixture.image.enroll(&tpm, "4");
    let kbs = format!("--kbs={}", fixture.document().display());
    let run = fixture.image.run("enroll", &["--unlock-tpm2", &option(&tpm), &kbs, "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(fixture.image.opens_with(&fixture.secret()));
    assert_eq!(fixture.image.dry_run(&tpm).code, 0);
}

fn slug(outcome: Result<(), Error>) -> &'static str {
    outcome.err().map_or("accepted", |error| error.slug())
}
