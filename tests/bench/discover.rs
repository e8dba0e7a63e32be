//! Time and memory to discover the root among 1, 8 and 32 disks with 128 partitions each, in a fake root
//! directory.
//!
//!     cargo bench --bench discover --no-default-features
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a bench that cannot measure has to stop"
)]

#[path = "../support/gpt_disk.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod gpt_disk;
#[path = "../support/tree.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod tree;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use cvm_unlock::discover::Discovery;
use cvm_unlock::discover::uevent::Stationary;
use cvm_unlock::format::efi::guid::Guid;
use gpt_disk::Part;
use tree::Tree;

fn main() {
    match std::env::args().skip(1).find(|argument| argument != "--bench") {
        Some(root) => measure(root.into()),
        None => [1, 8, 32].into_iter().for_each(bench),
    }
}

/// Runs in a separate process, so that its peak of memory is discovery's.
fn bench(disks: u64) {
    let tree = Tree::new();
    (0..disks).for_each(|disk| add_disk(&tree, disk, disk + 1 == disks));
    let own = std::env::current_exe().unwrap();
    let status = Command::new(own).arg(tree.path()).status().unwrap();
    assert!(status.success());
}

fn measure(root: PathBuf) {
    let disks = std::fs::read_dir(root.join("sys/class/block")).unwrap().count() / (1 + PARTITIONS);
    let before = resident();
    let discovery = Discovery::open(root, Stationary);
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            let found = discovery.find(Duration::ZERO).expect("a root partition");
            assert_eq!(found.candidates.len(), 1);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!(
        "{disks:>3} disks of {PARTITIONS} partitions: {:>8.2} ms (median of {RUNS}), {:>5} KiB more at the peak",
        times.get(RUNS / 2).unwrap().as_secs_f64() * 1000.0,
        resident() - before,
    );
}

/// Peak of resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A disk of 1 MiB; the last partition of the `last` disk is a root.
fn add_disk(tree: &Tree, number: u64, last: bool) {
    let parts: Vec<Part> = (0_u64..)
        .take(PARTITIONS)
        .map(|part| {
            let root = last && part + 1 == u64::try_from(PARTITIONS).unwrap();
            let kind = if root { Guid::NATIVE_ROOT } else { Guid::parse(DATA).unwrap() };
            let uuid = format!("22222222-2222-4222-8222-{:012}", 1000 * number + part);
            Part::new(&kind, &uuid, 64 + 8 * part, 71 + 8 * part)
        })
        .collect();
    let name = format!("nvme{number}n1");
    let minor = 256 * number;
    tree.add_blank_disk(&name, minor, 512, &gpt_disk::write(512, 2048, &parts));
    for (part, number) in parts.iter().zip(1..) {
        tree.add_partition(&name, minor, number, 512, part);
    }
}

const PARTITIONS: usize = 128;
const RUNS: usize = 21;
/// Linux file system data (UAPI.2).
const DATA: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
