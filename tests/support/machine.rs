//! A machine in a fake root directory: an image's configuration, disks that appear in sysfs, an emulated TPM.
//! The executable does what it does in a boot; only the mapping needs a real kernel, and fails.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::encoding::hex;
use super::executable::{Run, option, run};
use super::gpt_disk::{self, Part};
use super::swtpm::Swtpm;
use super::tree::Tree;

const ROOT_X86_64: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const FIRST: u64 = 2048;

/// The unique GUID of an EFI system partition.
pub const SOME_ESP: &str = "11111111-1111-4111-8111-111111111111";
pub const OTHER_ESP: &str = "33333333-3333-4333-8333-333333333333";

/// A root directory without disks, for an image with this configuration.
pub fn configured(mut config: Value) -> Tree {
    let tree = Tree::new();
    config["device_timeout_seconds"] = 1.into();
    tree.write("etc/cvm-unlock/config.json", config);
    tree.write("proc/sys/kernel/random/boot_id", "6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1");
    tree.write("proc/uptime", "8.15 12.00");
    tree
}

/// Puts `volume` into the root partition of a disk `name` with an ESP of the unique GUID `esp`.
pub fn add_disk(tree: &Tree, name: &str, minor: u64, volume: &[u8], esp: &str) {
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

/// Runs the command of the unit.
pub fn unlock(tree: &Tree, tpm: &Swtpm, extra: &[&str]) -> Run {
    let root = format!("--root={}", tree.path().display());
    let tpm = option(tpm);
    run(&[&["unlock", &root, &tpm, "--json"], extra].concat())
}

/// The report of the last unlock.
pub fn report(tree: &Tree) -> Value {
    serde_json::from_slice(&std::fs::read(tree.path().join("run/cvm-unlock/report.json")).unwrap()).unwrap()
}

/// PCR 15 after one extend of the digest of `text`.
pub fn extended_once(text: &str) -> String {
    let value = Sha256::new().chain_update([0; 32]).chain_update(Sha256::digest(text)).finalize();
    hex(&value)
}
