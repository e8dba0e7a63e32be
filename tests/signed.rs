//! Signed policies and imported objects, made by systemd 252 and by tpm2-tools, opened by us; and what is refused.
#![cfg(feature = "native")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "tests state what they expect bluntly and share their workbench"
)]

#[path = "support/bench.rs"]
mod bench;
#[path = "support/swtpm.rs"]
mod swtpm;
#[path = "support/systemd.rs"]
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use bench::{Image, option, run};
use cvm_unlock::error::Failure;
use cvm_unlock::fence::Unfenced;
use cvm_unlock::fence::measurement_log::MeasurementLog;
use cvm_unlock::hex;
use cvm_unlock::luks::Uuid;
use cvm_unlock::pcr::{Bank, Pcr, PcrMask};
use cvm_unlock::policy::key::{Exponent, PolicyKey};
use cvm_unlock::policy::{approved, literal};
use cvm_unlock::secret::{Secret, VolumeKey};
use cvm_unlock::tpm::blob::Sealed;
use cvm_unlock::tpm::esapi::EsapiTpm;
use cvm_unlock::tpm::srk::Srk;
use cvm_unlock::tpm::{Authorization, Parent, Step, Tpm};
use serde_json::{Value, json};
use swtpm::Swtpm;
use systemd::{Signer, boot, cryptenroll, dry_run};

const SECRET: &[u8] = b"thirty-two bytes of a secret ...";

/// A volume enrolled by systemd-cryptenroll against a policy key, and literal PCRs where given.
struct Bench {
    tpm: Swtpm,
    signer: Signer,
    image: Image,
    root: tempfile::TempDir,
}

impl Bench {
    fn new(literal: &str) -> Self {
        let (tpm, signer, image) = (Swtpm::new(), Signer::new(), Image::new());
        // Without a signature that fits, systemd refuses to enrol.
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

    fn run(&self, signature: &Path) -> bench::Run {
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
    let mut bench = Bench::new("");
    for kernel in ["kernel-1", "kernel-2"] {
        let signature = bench.signer.sign(&bench.tpm, kernel, "enter-initrd");
        boot(&bench.tpm, kernel, "enter-initrd");
        bench.opens(&signature);
        bench.tpm.extend(11, "leave-initrd");
        bench.is_refused(&signature, "signature-missing");
        bench.tpm.reboot();
    }
}

#[test]
fn a_signed_policy_beside_literal_pcrs_of_systemd_asks_for_both() {
    let mut bench = Bench::new("7");
    let signature = bench.signer.sign(&bench.tpm, "kernel", "enter-initrd");
    bench.is_refused(&signature, "signature-missing");
    boot(&bench.tpm, "kernel", "enter-initrd");
    bench.opens(&signature);
    bench.tpm.extend(7, "another Secure Boot state");
    let message = bench.is_refused(&signature, "pcr-mismatch");
    assert!(message.as_str().unwrap().contains("PCRs 7 (sha256) changed since enrolment"), "{message}");
    bench.tpm.reboot();
    boot(&bench.tpm, "kernel", "enter-initrd");
    bench.opens(&signature);
}

#[test]
fn without_a_signature_the_refusal_says_what_was_looked_for() {
    let bench = Bench::new("");
    let stranger = Signer::new();
    let other = stranger.sign(&bench.tpm, "kernel", "enter-initrd");
    boot(&bench.tpm, "kernel", "enter-initrd");
    let right = bench.signer.sign(&bench.tpm, "kernel", "enter-initrd");
    let fingerprint = {
        let pem = fs::read_to_string(bench.signer.public()).unwrap();
        hex::encode(PolicyKey::from_pem(&pem).unwrap().fingerprint())
    };
    assert!(fs::read_to_string(&right).unwrap().contains(&fingerprint));
    let message = bench.is_refused(&other, "signature-missing");
    for part in ["PCRs 11 of bank sha256", &fingerprint, "none of other values either"] {
        assert!(message.as_str().unwrap().contains(part), "{message}");
    }
    bench.opens(&right);
}

#[test]
fn a_forged_signature_is_refused_by_the_tpm() {
    let bench = Bench::new("");
    boot(&bench.tpm, "kernel", "enter-initrd");
    let signature = bench.signer.sign(&bench.tpm, "kernel", "enter-initrd");
    bench.opens(&signature);
    let mut file: Value = serde_json::from_slice(&fs::read(&signature).unwrap()).unwrap();
    // The signature of another bank's policy, by the same key.
    file["sha256"][0]["sig"] = file["sha1"][0]["sig"].clone();
    let forged = bench.signer.file("forged.json");
    fs::write(&forged, file.to_string()).unwrap();
    bench.is_refused(&forged, "signature-invalid");
    fs::write(&forged, "{\"sha256\": [{}]}").unwrap();
    let run = bench.run(&forged);
    assert_eq!((run.slug().as_str(), run.code), ("signature-file-malformed", 65));
}

#[test]
fn signature_files_are_found_where_systemds_stub_and_systemd_leave_them() {
    let bench = Bench::new("");
    boot(&bench.tpm, "kernel", "enter-initrd");
    let signature = bench.signer.sign(&bench.tpm, "kernel", "enter-initrd");
    let run = || dry_run(&bench.image, &bench.tpm, bench.root.path(), &[]);
    assert_eq!(run().slug(), "signature-missing");
    for place in [".extra", "etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"] {
        let directory = bench.root.path().join(place);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(&signature, directory.join("tpm2-pcr-signature.json")).unwrap();
        assert_eq!(run().code, 0, "{place}");
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn several_tokens_are_tried_in_order_with_the_tpm_opened_once() {
    let bench = Bench::new("7");
    cryptenroll(&bench.image, &bench.tpm, &["--tpm2-pcrs=8"]);
    cryptenroll(&bench.image, &bench.tpm, &["--tpm2-pcrs=16"]);
    bench.tpm.extend(8, "another command line");
    let run = dry_run(&bench.image, &bench.tpm, bench.root.path(), &[]);
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
    swtpm::run(command.arg(image.path()));
    assert_eq!(run().slug(), "token-pin");
}

/// Objects made by tpm2-tools, with a policy that `signer` may sign.
struct Tools {
    tpm: Swtpm,
    signer: Signer,
    key: PolicyKey,
}

impl Tools {
    fn new() -> Self {
        let (tpm, signer) = (Swtpm::new(), Signer::new());
        let key = PolicyKey::from_pem(&fs::read_to_string(signer.public()).unwrap()).unwrap();
        fs::write(tpm.file("secret"), SECRET).unwrap();
        Self { tpm, signer, key }
    }

    /// The name that the TPM gives the key, in the file `name`; the loaded key in `key.ctx`.
    fn load_key(&self, exponent: Exponent) {
        let public = self.key.public(exponent);
        fs::write(self.tpm.file("key.pub"), tpm2b(&public)).unwrap();
        self.tpm.tool("tpm2_loadexternal -C o -u key.pub -c key.ctx -n name");
        assert_eq!(fs::read(self.tpm.file("name")).unwrap(), self.key.name(exponent));
    }

    /// Signs `approved ‖ reference` with openssl; gives the raw signature, also in the file `signature`.
    fn sign(&self, approved: &[u8], reference: &[u8]) -> Vec<u8> {
        fs::write(self.tpm.file("message"), [approved, reference].concat()).unwrap();
        let private = self.signer.private();
        self.tpm.tool(&format!("openssl dgst -sha256 -sign {} -out signature message", private.display()));
        fs::read(self.tpm.file("signature")).unwrap()
    }

    /// The digest of `TPM2_PolicyAuthorize`, in the file `policy`, perhaps with a `TPM2_PolicyPCR` behind it.
    fn policy(&self, reference: &[u8], literal: Option<&str>) {
        fs::write(self.tpm.file("reference"), reference).unwrap();
        let option = if reference.is_empty() { "" } else { "-q reference" };
        self.tpm.tool("tpm2_startauthsession -S trial");
        self.tpm.tool(&format!("tpm2_policyauthorize -S trial -n name {option} -L policy"));
        if let Some(pcrs) = literal {
            self.tpm.tool(&format!("tpm2_policypcr -S trial -l {pcrs} -L policy"));
        }
        self.tpm.tool("tpm2_flushcontext trial");
    }

    /// The digest of the present PCR 11.
    fn approved(&self) -> [u8; 32] {
        let values = open(&self.tpm).read_pcrs(&[(Bank::Sha256, mask(&[11]))]).unwrap().remove(0);
        literal::digest(&values)
    }

    fn steps(&self, exponent: Exponent, reference: Option<&str>) -> Vec<Step> {
        let (approved, reference) = (self.approved(), approved::reference(reference));
        let signature = self.sign(&approved, &reference);
        let (key, name) = (self.key.public(exponent), self.key.name(exponent));
        let authorization = Authorization { key, name, approved, reference, signature };
        vec![Step::Pcr(Bank::Sha256, mask(&[11])), Step::Authorize(Box::new(authorization))]
    }

    /// Makes a primary persistent at `handle`.
    fn parent(&self, algorithm: &str, handle: u32) -> Parent {
        self.tpm.tool(&format!("tpm2_createprimary -C o -G {algorithm} -c parent.ctx"));
        self.tpm.tool(&format!("tpm2_evictcontrol -C o -c parent.ctx {handle:#x}"));
        self.tpm.tool("tpm2_flushcontext -t");
        self.tpm.tool(&format!("tpm2_readpublic -c {handle:#x} -o parent.pub -t parent.srk"));
        Parent::Persistent(Srk::parse(&fs::read(self.tpm.file("parent.srk")).unwrap()).unwrap())
    }

    /// The secret as an object wrapped for the parent whose public half is in `parent.pub`: the files `private`, `public`
    /// and `seed`. Its policy is the key's, without reference.
    fn wrap_for_parent(&self) {
        self.load_key(Exponent::Explicit);
        self.policy(&[], None);
        // The emulator has room for three objects: nothing stays loaded between two steps.
        let step = |line: &str| {
            self.tpm.tool(line);
            self.tpm.tool("tpm2_flushcontext -t");
        };
        step("true");
        step("tpm2_createprimary -C n -c origin.ctx");
        // No attribute at all, as an offline enrolment of systemd's.
        step("tpm2_create -C origin.ctx -u public -r local -L policy -i secret -a 0x0");
        step("tpm2_load -C origin.ctx -u public -r local -c object.ctx");
        step("tpm2_loadexternal -C n -u parent.pub -c target.ctx");
        // The same key may approve of the duplication: TPM2_PolicyCommandCode(TPM_CC_Duplicate).
        step("tpm2_startauthsession -S trial");
        step("tpm2_policycommandcode -S trial -L duplication TPM2_CC_Duplicate");
        step("tpm2_flushcontext trial");
        let duplication = fs::read(self.tpm.file("duplication")).unwrap();
        self.sign(&duplication, &[]);
        self.tpm
            .tool("tpm2_verifysignature -c key.ctx -g sha256 -m message -s signature -f rsassa -t ticket");
        step("tpm2_startauthsession --policy-session -S session");
        step("tpm2_policycommandcode -S session TPM2_CC_Duplicate");
        step("tpm2_policyauthorize -S session -i duplication -n name -t ticket");
        self.tpm
            .tool("tpm2_duplicate -C target.ctx -c object.ctx -G null -p session:session -r private -s seed");
        step("tpm2_flushcontext session");
    }

    fn files(&self, names: &[&str]) -> Sealed {
        let bytes: Vec<_> = names.iter().map(|name| fs::read(self.tpm.file(name)).unwrap()).collect();
        Sealed::parse(&bytes.concat()).unwrap()
    }
}

#[test]
fn what_tpm2_tools_seal_to_a_policy_key_we_unseal_with_and_without_reference_in_either_form_of_the_key() {
    for (exponent, reference, handle) in [
        (Exponent::Explicit, None, 0x8100_0001),
        (Exponent::Explicit, Some("initrd"), 0x8100_0042),
        (Exponent::Default, None, 0x8101_0007),
    ] {
        let tools = Tools::new();
        let parent = tools.parent("ecc256:aes128cfb", handle);
        tools.load_key(exponent);
        tools.tpm.tool("tpm2_flushcontext -t");
        tools.policy(&approved::reference(reference), Some("sha256:15"));
        assert_eq!(fs::read(tools.tpm.file("policy")).unwrap(), {
            let zero = open(&tools.tpm).read_pcrs(&[(Bank::Sha256, mask(&[15]))]).unwrap().remove(0);
            literal::extend(
                approved::digest(&tools.key.name(exponent), &approved::reference(reference)),
                &zero,
            )
        });
        tools.tpm.tool(&format!(
            "tpm2_create -C {handle:#x} -u public -r private -L policy -i secret -a fixedtpm|fixedparent|noda"
        ));
        tools.tpm.tool("tpm2_flushcontext -t");
        let sealed = tools.files(&["private", "public"]);
        let mut steps = tools.steps(exponent, reference);
        steps.push(Step::Pcr(Bank::Sha256, mask(&[15])));
        let before = tools.tpm.commands().len();
        let secret = open(&tools.tpm).unseal(&sealed, &parent, &steps).unwrap();
        assert_eq!(secret.expose(), SECRET);
        // LoadExternal, VerifySignature, FlushContext; Load, StartAuthSession, PolicyPCR, PolicyAuthorize, PolicyPCR,
        // Unseal, FlushContext.
        let commands = tools.tpm.commands().split_off(before);
        let expected = [0x167, 0x177, 0x165, 0x157, 0x176, 0x17f, 0x16a, 0x17f, 0x15e, 0x165];
        assert_eq!(commands, expected, "{commands:x?}");
        assert_nothing_loaded(&tools.tpm);

        // PCR 11 changes after the plan was made: the approval is of another state.
        tools.tpm.extend(11, "another kernel");
        let error = open(&tools.tpm).unseal(&sealed, &parent, &steps).map(|_| ()).unwrap_err();
        assert_eq!(error.slug(), "pcr-changed");
        // Signed anew, it opens.
        let mut steps = tools.steps(exponent, reference);
        steps.push(Step::Pcr(Bank::Sha256, mask(&[15])));
        assert_eq!(open(&tools.tpm).unseal(&sealed, &parent, &steps).unwrap().expose(), SECRET);
        tools.tpm.extend(15, "a volume key");
        let error = open(&tools.tpm).unseal(&sealed, &parent, &steps).map(|_| ()).unwrap_err();
        assert_eq!(error.slug(), "pcr-mismatch");
        assert_nothing_loaded(&tools.tpm);
    }
}

/// `tpm2_duplicate` makes what an offline enrolment makes: an object wrapped for a parent whose public half is known.
#[test]
fn an_object_made_away_from_its_parent_is_imported_below_either_kind_of_parent() {
    for algorithm in ["ecc256:aes128cfb", "rsa2048:aes128cfb"] {
        let tools = Tools::new();
        let parent = tools.parent(algorithm, 0x8100_0042);
        tools.wrap_for_parent();
        let sealed = tools.files(&["private", "public", "seed"]);
        assert_eq!((sealed.facts().attributes, sealed.facts().is_fixed()), (0, false));
        let steps = tools.steps(Exponent::Explicit, None);
        let before = tools.tpm.commands().len();
        let secret = open(&tools.tpm).unseal(&sealed, &parent, &steps);
        assert_eq!(secret.unwrap_or_else(|error| panic!("{algorithm}: {error}")).expose(), SECRET);
        // As without it, and TPM2_Import before TPM2_Load; no PolicyPCR of literal values here.
        assert_eq!(tools.tpm.commands().len() - before, 10);
        assert_nothing_loaded(&tools.tpm);

        let other = Tools::new();
        let own = other.parent(algorithm, 0x8100_0042);
        let error = open(&other.tpm).unseal(&sealed, &own, &steps).map(|_| ()).unwrap_err();
        assert_nothing_loaded(&other.tpm);
        assert_eq!(error.slug(), "tpm-foreign", "{algorithm}: {error}");
    }
}

/// A volume with the token that systemd 262 writes for `sealed`, and a signature file for the present PCR 11.
fn volume(
    tools: &Tools,
    sealed: &Sealed,
    parent: &Parent,
    pcrs: &[u8],
    reference: Option<&str>,
) -> (Image, PathBuf) {
    let Parent::Persistent(srk) = parent else { panic!("no persistent parent") };
    let image = Image::new();
    let key = image.key_file().with_extension("sealed");
    fs::write(&key, Base64::encode_string(SECRET)).unwrap();
    // systemd's keyslots: PBKDF2 with 1000 iterations.
    let status = std::process::Command::new("cryptsetup")
        .args(["luksAddKey", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--key-file"])
        .args([image.key_file(), image.path(), key])
        .status();
    assert!(status.unwrap().success());
    let pem = fs::read(tools.signer.public()).unwrap();
    let mut token = json!({
        "type": "systemd-tpm2",
        "keyslots": ["1"],
        "tpm2-blob": Base64::encode_string(&sealed.to_bytes()),
        "tpm2-pcrs": pcrs,
        "tpm2-pcr-bank": "sha256",
        "tpm2-primary-alg": "ecc",
        "tpm2-policy-hash": hex::encode(&sealed.facts().auth_policy),
        "tpm2_pubkey_pcrs": [11],
        "tpm2_pubkey": Base64::encode_string(&pem),
        "tpm2_srk": Base64::encode_string(&srk.to_bytes()),
    });
    let approved = tools.approved();
    let mut entry = json!({
        "pcrs": [11],
        "pkfp": hex::encode(tools.key.fingerprint()),
        "pol": hex::encode(&approved),
        "sig": Base64::encode_string(&tools.sign(&approved, &approved::reference(reference))),
    });
    if let Some(reference) = reference {
        token["tpm2_pubkey_ref"] = reference.into();
        entry["ref"] = reference.into();
    }
    let file = tools.tpm.file("token.json");
    fs::write(&file, token.to_string()).unwrap();
    let json_file = format!("--json-file={}", file.display());
    image.cryptsetup(&["token", "import", "--token-id=0", &json_file]);
    let signatures = tools.tpm.file("signatures.json");
    fs::write(&signatures, json!({"sha256": [entry]}).to_string()).unwrap();
    (image, signatures)
}

#[test]
fn a_volume_of_systemd_262_opens_with_policy_reference_and_own_parent_key_or_imported() {
    let root = tempfile::tempdir().unwrap();
    let run = |tools: &Tools, (image, signatures): &(Image, PathBuf)| {
        let named = format!("--tpm2-signature={}", signatures.display());
        dry_run(image, &tools.tpm, root.path(), &[&named])
    };
    // With a reference, PCR 15 by value, and a parent key at a handle of one's own.
    let tools = Tools::new();
    let parent = tools.parent("ecc256:aes128cfb", 0x8100_0042);
    tools.load_key(Exponent::Explicit);
    tools.tpm.tool("tpm2_flushcontext -t");
    tools.policy(&approved::reference(Some("initrd")), Some("sha256:15"));
    tools.tpm.tool(
        "tpm2_create -C 0x81000042 -u public -r private -L policy -i secret -a fixedtpm|fixedparent|noda",
    );
    tools.tpm.tool("tpm2_flushcontext -t");
    let sealed = tools.files(&["private", "public"]);
    let before = tools.tpm.commands().len();
    let good = volume(&tools, &sealed, &parent, &[15], Some("initrd"));
    let made = tools.tpm.commands().len();
    let opened = run(&tools, &good);
    assert_eq!(opened.code, 0, "{}{}", opened.stdout, opened.stderr);
    let sent = tools.tpm.commands().split_off(made);
    println!("with policy reference: {} commands, {} before", sent.len(), made - before);
    assert!(sent.len() <= 11, "{sent:x?}");
    // The same signature offered for another reference, or for none, is not what was sealed to.
    let other = volume(&tools, &sealed, &parent, &[15], Some("other"));
    assert_eq!(run(&tools, &other).slug(), "pcr-mismatch");

    let tools = Tools::new();
    let parent = tools.parent("ecc256:aes128cfb", 0x8100_0001);
    tools.wrap_for_parent();
    let sealed = tools.files(&["private", "public", "seed"]);
    let imported = volume(&tools, &sealed, &parent, &[], None);
    let made = tools.tpm.commands().len();
    let opened = run(&tools, &imported);
    assert_eq!(opened.code, 0, "{}{}", opened.stdout, opened.stderr);
    let sent = tools.tpm.commands().split_off(made);
    assert!(sent.len() <= 11, "{sent:x?}");
}

/// The design's promise: at most 11 commands of a dry run, counted from the first to the last.
#[test]
fn a_dry_run_with_a_signed_policy_stays_within_its_budget_of_commands() {
    for (literal, limit) in [("", 10), ("7", 11), ("7+15", 11)] {
        let bench = Bench::new(literal);
        boot(&bench.tpm, "kernel", "enter-initrd");
        let signature = bench.signer.sign(&bench.tpm, "kernel", "enter-initrd");
        let before = bench.tpm.commands().len();
        bench.opens(&signature);
        let commands = bench.tpm.commands().split_off(before);
        println!("literal PCRs {literal:?}: {} commands {commands:x?}", commands.len());
        // systemd 252 has no storage root key: CreatePrimary and its FlushContext come on top of the budget.
        assert!(commands.len() <= limit + 2, "{commands:x?}");
        assert_eq!(commands.iter().filter(|code| **code == 0x17e).count(), 1, "one TPM2_PCR_Read");
    }
}

/// The design's promise: at most 15 commands of a whole unlock reach the chip, the library's probe of a device included.
#[test]
fn a_whole_unlock_with_a_signed_policy_stays_within_its_budget_of_commands() {
    let tools = Tools::new();
    let parent = tools.parent("ecc256:aes128cfb", 0x8100_0001);
    tools.load_key(Exponent::Explicit);
    tools.tpm.tool("tpm2_flushcontext -t");
    tools.policy(&[], Some("sha256:15"));
    tools.tpm.tool(
        "tpm2_create -C 0x81000001 -u public -r private -L policy -i secret -a fixedtpm|fixedparent|noda",
    );
    tools.tpm.tool("tpm2_flushcontext -t");
    let sealed = tools.files(&["private", "public"]);
    let mut steps = tools.steps(Exponent::Explicit, None);
    steps.push(Step::Pcr(Bank::Sha256, mask(&[15])));
    let log = MeasurementLog::new(tools.tpm.file("root").as_path());
    let before = tools.tpm.commands().len();
    let mut tpm = open(&tools.tpm);
    let also = [(Bank::Sha256, mask(&[11]))];
    let (unfenced, readings) = Unfenced::check_and_read(&mut tpm, &also).unwrap();
    assert!(readings.get(Bank::Sha256, mask(&[11, 15])).is_some());
    tpm.unseal(&sealed, &parent, &steps).unwrap();
    let key = VolumeKey::new(Secret::new(vec![7; 64]));
    unfenced.raise(&mut tpm, &key, "root", &Uuid::new([0x5a; 16]), &log).unwrap();
    drop(tpm);
    let commands = tools.tpm.commands().split_off(before);
    println!("whole unlock: {} commands {commands:x?}", commands.len());
    assert!(commands.len() <= 14);
    // Nobody unseals it again.
    let error = open(&tools.tpm).unseal(&sealed, &parent, &steps).map(|_| ()).unwrap_err();
    assert_eq!(error.slug(), "pcr-mismatch");
}

fn open(swtpm: &Swtpm) -> EsapiTpm {
    EsapiTpm::open(&swtpm.device().parse().unwrap()).unwrap()
}

fn mask(pcrs: &[u8]) -> PcrMask {
    pcrs.iter().map(|number| Pcr::new(*number).unwrap()).collect()
}

#[track_caller]
fn assert_nothing_loaded(swtpm: &Swtpm) {
    for kind in ["handles-transient", "handles-loaded-session"] {
        assert_eq!(String::from_utf8(swtpm.tool(&format!("tpm2_getcap {kind}"))).unwrap(), "", "{kind}");
    }
}

/// `TPM2B_PUBLIC` of its content.
fn tpm2b(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
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
        // By its own token, the volume can be changed, too.
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
