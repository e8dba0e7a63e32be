//! `unlock` from discovery on, in a fake root directory: sysfs, devices, EFI variables, `/run` and `/etc` are
//! files, and the TPM is emulated. No test gets as far as a mapping, which needs a real kernel (vm-tests).

use crate::support::image::Image;
use crate::support::machine::{OTHER_ESP, SOME_ESP, add_disk, extended_once, report, unlock};
use crate::support::owner;
use crate::support::swtpm::Swtpm;
use crate::support::tree::Tree;
use crate::support::volumes::FAST;

fn prepared() -> (Tree, Swtpm, Vec<u8>) {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7+11");
    (configured(), tpm, std::fs::read(image.path()).unwrap())
}

/// A root directory without disks, for an image of the owner's.
fn configured() -> Tree {
    crate::support::machine::configured(owner::config())
}

#[test]
fn the_root_volume_is_found_by_its_partition_type() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, SOME_ESP);
    let found = unlock(&tree, &tpm, &["--dry-run"]);
    assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
    assert_eq!(found.json()["volume"]["partition_uuid"], "22222222-2222-4222-8222-000000000000");
}

#[test]
fn the_boot_disk_is_the_one_that_the_loader_names() {
    let (tree, tpm, volume) = prepared();
    let esp = OTHER_ESP;
    add_disk(&tree, "vda", 0, &vec![0; 1 << 20], SOME_ESP);
    add_disk(&tree, "vdb", 16, &volume, esp);
    tree.set_loader_partition(esp);
    let found = unlock(&tree, &tpm, &["--dry-run"]);
    assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
    assert!(found.json()["volume"]["device"].as_str().unwrap().ends_with("dev/vdb2"));
}

#[test]
fn two_volumes_that_both_prove_themselves_are_refused() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, SOME_ESP);
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0);
    add_disk(&tree, "vdb", 16, &volume, OTHER_ESP);
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).slug(), "root-ambiguous");
}

#[test]
fn a_strangers_volume_is_passed_over_wherever_it_stands() {
    let (_, tpm, ours) = prepared();
    let strangers = Image::new();
    strangers.enroll_with(&tpm, &["--tpm2-pcrs=7+11", "--private-db"]);
    let strangers = std::fs::read(strangers.path()).unwrap();
    for (first, second, device) in [(&strangers, &ours, "dev/vdb2"), (&ours, &strangers, "dev/vda2")] {
        let tree = configured();
        add_disk(&tree, "vda", 0, first, SOME_ESP);
        add_disk(&tree, "vdb", 16, second, OTHER_ESP);
        let report = unlock(&tree, &tpm, &["--dry-run"]).json();
        assert_eq!(report["outcome"], "would-unlock", "{report}");
        assert!(report["volume"]["device"].as_str().unwrap().ends_with(device), "{report}");
        let [refused] = report["refused_volumes"].as_array().unwrap().as_slice() else { panic!("{report}") };
        assert_eq!(refused["slug"], "volume-unauthenticated");
        assert!(!refused["device"].as_str().unwrap().ends_with(device), "{report}");
        assert_eq!(report["refused_tokens"][0]["device"], refused["device"]);
    }
}

#[test]
fn the_first_refusal_is_the_one_that_is_reported() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &vec![0; 1 << 20], SOME_ESP);
    add_disk(&tree, "vdb", 16, &volume, OTHER_ESP);
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0);
    tpm.extend(11, "another kernel");
    let refused = unlock(&tree, &tpm, &["--dry-run"]);
    assert_eq!(refused.slug(), "luks-magic");
    let report = refused.json();
    assert!(report["volume"]["device"].as_str().unwrap().ends_with("dev/vda2"), "{report}");
    assert_eq!(report["refused_volumes"][1]["slug"], "pcr-mismatch");
}

#[test]
fn in_a_fenced_boot_a_dry_run_refuses_as_the_unlock_did() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &vec![0; 1 << 20], SOME_ESP);
    add_disk(&tree, "vdb", 16, &volume, OTHER_ESP);
    tpm.extend(11, "another kernel");
    assert_eq!(unlock(&tree, &tpm, &[]).code, 65);
    assert_eq!(report(&tree)["failure"]["slug"], "luks-magic");
    let judged = unlock(&tree, &tpm, &["--dry-run"]);
    assert_eq!((judged.code, judged.slug().as_str()), (65, "luks-magic"));
    let report = judged.json();
    assert!(report["volume"]["device"].as_str().unwrap().ends_with("dev/vda2"), "{report}");
    assert_eq!(report["refused_volumes"][1]["slug"], "pcr-mismatch");
}

#[test]
fn volumes_full_of_tokens_do_not_buy_endless_attempts() {
    let (_, tpm, ours) = prepared();
    let full = Image::new();
    // With room for the JSON of 32 tokens.
    let format = ["luksFormat", "--batch-mode", "--type=luks2", "--luks2-metadata-size=128k"];
    full.cryptsetup(&[&format, &FAST[..]].concat());
    full.enroll_with(
        &tpm,
        &["--tpm2-pcrs=7:sha256=1111111111111111111111111111111111111111111111111111111111111111"],
    );
    full.fill_with_token("0");
    let full = std::fs::read(full.path()).unwrap();
    for (volumes, slugs) in [
        ([&full, &full, &ours], vec!["pcr-mismatch", "pcr-mismatch", "tokens-too-many"]),
        ([&full, &ours, &full], vec!["pcr-mismatch", "tokens-too-many"]),
    ] {
        let tree = configured();
        for (number, volume) in volumes.into_iter().enumerate() {
            let name = ["vda", "vdb", "vdc"][number];
            let esp = format!("33333333-3333-4333-8333-{number:012}");
            add_disk(&tree, name, 16 * u64::try_from(number).unwrap(), volume, &esp);
        }
        let run = unlock(&tree, &tpm, &["--dry-run"]);
        let report = run.json();
        let refused = report["refused_volumes"].as_array().unwrap();
        assert_eq!(refused.iter().map(|volume| &volume["slug"]).collect::<Vec<_>>(), slugs);
        assert_eq!(report["outcome"] == "would-unlock", slugs.len() == 2, "{report}");
    }
}

#[test]
fn an_unencrypted_root_is_never_used() {
    let (tree, tpm, volume) = prepared();
    let control = Tree::new();
    control.write("etc/cvm-unlock/config.json", owner::config());
    add_disk(&control, "vda", 0, &volume, SOME_ESP);
    assert_eq!(unlock(&control, &tpm, &["--dry-run"]).code, 0);
    add_disk(&tree, "vda", 0, &vec![0; 1 << 20], SOME_ESP);
    let refused = unlock(&tree, &tpm, &[]);
    assert_eq!(refused.code, 65, "{}", refused.stderr);
    assert_eq!(report(&tree)["failure"]["slug"], "luks-magic");
}

#[test]
fn a_refused_unlock_is_fenced_reported_and_logged() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, SOME_ESP);
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0);
    tpm.extend(11, "another kernel");
    let refused = unlock(&tree, &tpm, &[]);
    assert_eq!(refused.code, 77, "{}", refused.stderr);
    assert!(refused.stderr.contains("[pcr-mismatch]"), "{}", refused.stderr);
    let report = report(&tree);
    assert_eq!((&report["outcome"], &report["failure"]["slug"]), (&"failed".into(), &"pcr-mismatch".into()));
    assert_eq!(tpm.pcr(15), extended_once("cvm-unlock:failed"));
    let log = std::fs::read_to_string(tree.path().join("run/log/systemd/tpm2-measure.log")).unwrap();
    assert!(log.contains("cvm-unlock:failed"), "{log}");
}

#[test]
fn an_efi_variable_that_systemd_obeys_is_refused_before_a_key_is_released() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, SOME_ESP);
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0, "the control");
    let variable = "sys/firmware/efi/efivars/SystemdOptions-8cf2644b-4b0b-428f-9387-6d876050dc67";
    tree.write(variable, "init=/bin/sh");
    assert!(unlock(&tree, &tpm, &["--dry-run"]).stdout.contains("efi-variable-set"));
    let refused = unlock(&tree, &tpm, &[]);
    assert_eq!(refused.code, 77, "{}", refused.stderr);
    assert_eq!(report(&tree)["failure"]["slug"], "efi-variable-set");
    assert_eq!(tpm.pcr(15), extended_once("cvm-unlock:failed"));
}

#[test]
fn without_a_root_partition_the_wait_ends_at_its_deadline() {
    let (tree, tpm, _volume) = prepared();
    let refused = unlock(&tree, &tpm, &[]);
    assert_eq!(refused.code, 69, "{}", refused.stderr);
    assert_eq!(report(&tree)["failure"]["slug"], "root-not-found");
    assert_eq!(tpm.pcr(15), extended_once("cvm-unlock:failed"));
}

#[test]
fn a_second_unlock_in_the_same_boot_is_refused_before_anything_is_unsealed() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, SOME_ESP);
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0);
    tpm.extend(15, "a volume key");
    assert_eq!(unlock(&tree, &tpm, &[]).code, 77);
    assert_eq!(report(&tree)["failure"]["slug"], "pcr15-not-zero");
}

#[test]
fn a_broken_configuration_unlocks_nothing() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, SOME_ESP);
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0);
    tree.write("etc/cvm-unlock/config.json", r#"{"policy": {"require_fense": false}}"#);
    assert_eq!(unlock(&tree, &tpm, &[]).code, 78);
    assert_eq!(report(&tree)["failure"]["slug"], "config-invalid");
}
