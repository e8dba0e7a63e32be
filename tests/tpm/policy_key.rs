//! Opens objects that tpm2-tools seal to a policy key, or wrap for the parent key of another TPM: alone, and
//! as a volume of systemd 262.

use std::fs;
use std::path::PathBuf;

use cvm_unlock::base::error::Failure;
use cvm_unlock::base::pcr::Bank;
use cvm_unlock::base::secret::{Secret, VolumeKey};
use cvm_unlock::base::uuid::Uuid;
use cvm_unlock::fence::Unfenced;
use cvm_unlock::fence::measurement_log::MeasurementLog;
use cvm_unlock::format::tpm2::blob::Sealed;
use cvm_unlock::format::tpm2::parent::Parent;
use cvm_unlock::format::tpm2::step::PolicyStep;
use cvm_unlock::format::tpm2::{policy_authorize, policy_pcr};
use cvm_unlock::policy::key::Exponent;
use cvm_unlock::tpm::Tpm;
use serde_json::json;

use crate::support::commands;
use crate::support::encoding::{base64, hex};
use crate::support::image::Image;
use crate::support::library::{SECRET, mask, open};
use crate::support::systemd::dry_run;
use crate::support::tools::Tools;

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
        tools.policy(&policy_authorize::reference(reference), Some("sha256:15"));
        assert_eq!(fs::read(tools.tpm.file("policy")).unwrap(), {
            let zero = open(&tools.tpm).read_pcrs(&[(Bank::Sha256, mask(&[15]))]).unwrap().remove(0);
            policy_pcr::extend(
                policy_authorize::digest(&tools.key.name(exponent), &policy_authorize::reference(reference)),
                &zero,
            )
        });
        tools.tpm.tool(&format!(
            "tpm2_create -C {handle:#x} -u public -r private -L policy -i secret -a fixedtpm|fixedparent|noda"
        ));
        tools.tpm.tool("tpm2_flushcontext -t");
        let sealed = tools.files(&["private", "public"]);
        let mut steps = tools.steps(exponent, reference);
        steps.push(PolicyStep::Pcr(Bank::Sha256, mask(&[15])));
        let before = tools.tpm.commands().len();
        let secret = open(&tools.tpm).unseal(&sealed, &parent, &steps).unwrap();
        assert_eq!(secret.expose(), SECRET);
        // LoadExternal, VerifySignature, FlushContext; Load, StartAuthSession, PolicyPCR, PolicyAuthorize,
        // PolicyPCR, Unseal, FlushContext.
        let commands = tools.tpm.commands().split_off(before);
        let expected = [0x167, 0x177, 0x165, 0x157, 0x176, 0x17f, 0x16a, 0x17f, 0x15e, 0x165];
        assert_eq!(commands, expected, "{commands:x?}");
        tools.tpm.holds_nothing();

        // PCR 11 changes after the plan was made, so the approval is for another state.
        tools.tpm.extend(11, "another kernel");
        let error = open(&tools.tpm).unseal(&sealed, &parent, &steps).map(|_| ()).unwrap_err();
        assert_eq!(error.slug(), "pcr-changed");
        // With a new signature, it opens.
        let mut steps = tools.steps(exponent, reference);
        steps.push(PolicyStep::Pcr(Bank::Sha256, mask(&[15])));
        assert_eq!(open(&tools.tpm).unseal(&sealed, &parent, &steps).unwrap().expose(), SECRET);
        tools.tpm.extend(15, "a volume key");
        let error = open(&tools.tpm).unseal(&sealed, &parent, &steps).map(|_| ()).unwrap_err();
        assert_eq!(error.slug(), "pcr-mismatch");
        tools.tpm.holds_nothing();
    }
}

/// `tpm2_duplicate` makes the same as an offline enrolment: an object wrapped for a parent whose public half
/// is known.
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
        // The same commands as without the import, and TPM2_Import before TPM2_Load; no PolicyPCR of literal
        // values here.
        assert_eq!(tools.tpm.commands().len() - before, 10);
        tools.tpm.holds_nothing();

        let other = Tools::new();
        let own = other.parent(algorithm, 0x8100_0042);
        let error = open(&other.tpm).unseal(&sealed, &own, &steps).map(|_| ()).unwrap_err();
        other.tpm.holds_nothing();
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
    image.add_keyslot(&base64(SECRET));
    let pem = fs::read(tools.signer.public()).unwrap();
    let mut token = json!({
        "type": "systemd-tpm2",
        "keyslots": ["1"],
        "tpm2-blob": base64(&sealed.to_bytes()),
        "tpm2-pcrs": pcrs,
        "tpm2-pcr-bank": "sha256",
        "tpm2-primary-alg": "ecc",
        "tpm2-policy-hash": hex(&sealed.facts().auth_policy),
        "tpm2_pubkey_pcrs": [11],
        "tpm2_pubkey": base64(&pem),
        "tpm2_srk": base64(&srk.to_bytes()),
    });
    let approved = tools.approved();
    let mut entry = json!({
        "pcrs": [11],
        "pkfp": hex(tools.key.fingerprint()),
        "pol": hex(&approved),
        "sig": base64(&tools.sign(&approved, &policy_authorize::reference(reference))),
    });
    if let Some(reference) = reference {
        token["tpm2_pubkey_ref"] = reference.into();
        entry["ref"] = reference.into();
    }
    image.import_token("0", &token);
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
    // With a reference, PCR 15 by value, and a parent key at another handle.
    let tools = Tools::new();
    let parent = tools.parent("ecc256:aes128cfb", 0x8100_0042);
    tools.load_key(Exponent::Explicit);
    tools.tpm.tool("tpm2_flushcontext -t");
    tools.policy(&policy_authorize::reference(Some("initrd")), Some("sha256:15"));
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
    let approval = ["PCR_Read", "LoadExternal", "VerifySignature", "FlushContext"];
    let policy =
        ["Load", "StartAuthSession", "PolicyPCR", "PolicyAuthorize", "PolicyPCR", "Unseal", "FlushContext"];
    assert_eq!(commands::names(&sent), [&approval[..], &policy].concat());
    // The same signature with another reference, or with none, is not what was sealed to.
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
    let policy =
        ["Import", "Load", "StartAuthSession", "PolicyPCR", "PolicyAuthorize", "Unseal", "FlushContext"];
    assert_eq!(commands::names(&sent), [&approval[..], &policy].concat());
}

/// SPECIFICATION K16: at most 14 commands of a whole unlock, 15 with the library's probe of a device.
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
    steps.push(PolicyStep::Pcr(Bank::Sha256, mask(&[15])));
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
    // Nobody can unseal it again.
    let error = open(&tools.tpm).unseal(&sealed, &parent, &steps).map(|_| ()).unwrap_err();
    assert_eq!(error.slug(), "pcr-mismatch");
}
