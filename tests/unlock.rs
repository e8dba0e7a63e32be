//! `unlock` from discovery on, in a fake root directory: sysfs, devices, EFI variables, `/run` and `/etc` are files,
//! the TPM is an emulated one. Nothing here gets as far as a mapping: that needs a kernel of its own (vm-tests).
#![cfg(test)]
#![cfg(feature = "native")]

mod support;

use serde_json::Value;
use sha2::{Digest, Sha256};
use support::bench::{self, Image, Run, option, run};
use support::gpt_disk::{self, Part};
use support::swtpm::Swtpm;
use support::tree::Tree;

const ROOT_X86_64: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const FIRST: u64 = 2048;

/// Puts `volume` into the root partition of a disk `name` with an ESP of the unique GUID `esp`.
fn add_disk(tree: &Tree, name: &str, minor: u64, volume: &[u8], esp: &str) {
    let sectors = u64::try_from(volume.len()).unwrap() / 512;
    let uuid = format!("22222222-2222-4222-8222-{minor:012}");
    let parts = [Part::new(ESP, esp, 64, 127), Part::new(ROOT_X86_64, &uuid, FIRST, FIRST + sectors - 1)];
    let mut disk = gpt_disk::write(512, FIRST + sectors + 64, &parts);
    let start = usize::try_from(FIRST * 512).unwrap();
    disk[start..start + volume.len()].copy_from_slice(volume);
    tree.add_blank_disk(name, minor, 512, &disk);
    for (number, part) in (1..).zip(&parts) {
        tree.add_partition(name, minor, number, 512, part);
    }
}

fn unlock(tree: &Tree, tpm: &Swtpm, extra: &[&str]) -> Run {
    let root = format!("--root={}", tree.path().display());
    let tpm = option(tpm);
    run(&[&["unlock", &root, &tpm, "--json"], extra].concat())
}

fn report(tree: &Tree) -> Value {
    serde_json::from_slice(&std::fs::read(tree.path().join("run/cvm-unlock/report.json")).unwrap()).unwrap()
}

/// PCR 15 after one extend of the digest of `text`.
fn extended_once(text: &str) -> String {
    let value = Sha256::new().chain_update([0; 32]).chain_update(Sha256::digest(text)).finalize();
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn prepared() -> (Tree, Swtpm, Vec<u8>) {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "7+11");
    (configured(), tpm, std::fs::read(image.path()).unwrap())
}

/// A root directory without disks, for an image of the owner's.
fn configured() -> Tree {
    let tree = Tree::new();
    let mut config = bench::owner_config();
    config["device_timeout_seconds"] = 1.into();
    tree.write("etc/cvm-unlock/config.json", config);
    tree.write("proc/sys/kernel/random/boot_id", "6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1");
    tree.write("proc/uptime", "8.15 12.00");
    tree
}

#[test]
fn the_root_volume_is_found_by_its_partition_type() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, "11111111-1111-4111-8111-111111111111");
    let found = unlock(&tree, &tpm, &["--dry-run"]);
    assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
    assert_eq!(found.json()["volume"]["partition_uuid"], "22222222-2222-4222-8222-000000000000");
}

#[test]
fn the_boot_disk_is_the_one_that_the_loader_names() {
    let (tree, tpm, volume) = prepared();
    let esp = "33333333-3333-4333-8333-333333333333";
    add_disk(&tree, "vda", 0, &vec![0; 1 << 20], "11111111-1111-4111-8111-111111111111");
    add_disk(&tree, "vdb", 16, &volume, esp);
    tree.set_loader_partition(esp);
    let found = unlock(&tree, &tpm, &["--dry-run"]);
    assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
    assert!(found.json()["volume"]["device"].as_str().unwrap().ends_with("dev/vdb2"));
}

#[test]
fn two_volumes_that_both_prove_themselves_are_refused() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, "11111111-1111-4111-8111-111111111111");
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0);
    add_disk(&tree, "vdb", 16, &volume, "33333333-3333-4333-8333-333333333333");
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
        add_disk(&tree, "vda", 0, first, "11111111-1111-4111-8111-111111111111");
        add_disk(&tree, "vdb", 16, second, "33333333-3333-4333-8333-333333333333");
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
    add_disk(&tree, "vda", 0, &vec![0; 1 << 20], "11111111-1111-4111-8111-111111111111");
    add_disk(&tree, "vdb", 16, &volume, "33333333-3333-4333-8333-333333333333");
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
    add_disk(&tree, "vda", 0, &vec![0; 1 << 20], "11111111-1111-4111-8111-111111111111");
    add_disk(&tree, "vdb", 16, &volume, "33333333-3333-4333-8333-333333333333");
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
    full.cryptsetup(&[
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--luks2-metadata-size=128k",
        "--pbkdf=pbkdf2",
        "--pbkdf-force-iterations=1000",
    ]);
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
    control.write("etc/cvm-unlock/config.json", bench::owner_config());
    add_disk(&control, "vda", 0, &volume, "11111111-1111-4111-8111-111111111111");
    assert_eq!(unlock(&control, &tpm, &["--dry-run"]).code, 0);
    add_disk(&tree, "vda", 0, &vec![0; 1 << 20], "11111111-1111-4111-8111-111111111111");
    let refused = unlock(&tree, &tpm, &[]);
    assert_eq!(refused.code, 65, "{}", refused.stderr);
    assert_eq!(report(&tree)["failure"]["slug"], "luks-magic");
}

#[test]
fn a_refused_unlock_is_fenced_reported_and_logged() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, "11111111-1111-4111-8111-111111111111");
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
    add_disk(&tree, "vda", 0, &volume, "11111111-1111-4111-8111-111111111111");
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0);
    tpm.extend(15, "a volume key");
    assert_eq!(unlock(&tree, &tpm, &[]).code, 77);
    assert_eq!(report(&tree)["failure"]["slug"], "pcr15-not-zero");
}

#[test]
fn a_broken_configuration_unlocks_nothing() {
    let (tree, tpm, volume) = prepared();
    add_disk(&tree, "vda", 0, &volume, "11111111-1111-4111-8111-111111111111");
    assert_eq!(unlock(&tree, &tpm, &["--dry-run"]).code, 0);
    tree.write("etc/cvm-unlock/config.json", r#"{"policy": {"require_fense": false}}"#);
    assert_eq!(unlock(&tree, &tpm, &[]).code, 78);
    assert_eq!(report(&tree)["failure"]["slug"], "config-invalid");
}
