//! Discovery in fake root directories: candidates, or refusals.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::time::Duration;
use std::{fs, os::unix::fs::symlink};

use cvm_unlock::base::error::Failure;
use cvm_unlock::discover::select::{CANDIDATES_LIMIT, Note};
use cvm_unlock::discover::uevent::{Stationary, Wait, Woken};
use cvm_unlock::discover::{Candidates, DiscoverError, Discovery};
use cvm_unlock::format::efi::guid::Guid;

use crate::support::gpt_disk::{self, Part};
use crate::support::tree::Tree;

const ESP_UUID: &str = "11111111-1111-4111-8111-111111111111";
const ROOT_UUID: &str = "22222222-2222-4222-8222-222222222222";
const DEADLINE: Duration = Duration::from_secs(60);

fn parts() -> [Part; 2] {
    [
        Part::new(&Guid::ESP, ESP_UUID, 64, 127),
        Part::new(&Guid::NATIVE_ROOT, ROOT_UUID, 128, 255).attributes(1 << 59).label("root"),
    ]
}

fn find(tree: &Tree) -> Result<Candidates, DiscoverError> {
    Discovery::open(tree.path().to_owned(), Stationary).find(DEADLINE)
}

fn names(found: &Candidates) -> Vec<&str> {
    found.candidates.iter().map(|candidate| candidate.path.file_name().unwrap().to_str().unwrap()).collect()
}

fn slugs(found: &Candidates) -> Vec<&str> {
    found.notes.iter().map(Note::slug).collect()
}

/// Each wait makes the next event happen; after the last one, the time runs out.
struct Script<'a>(Cell<usize>, &'a [&'a dyn Fn()]);

impl Wait for Script<'_> {
    fn wait(&self, _timeout: Duration) -> io::Result<Woken> {
        let Some(step) = self.1.get(self.0.replace(self.0.get() + 1)) else { return Ok(Woken::Timeout) };
        step();
        Ok(Woken::Event)
    }
}

#[test]
fn the_root_of_the_boot_disk_is_found_and_opened() {
    for (disk, root, sector) in [("vda", "vda2", 512), ("nvme0n1", "nvme0n1p2", 4096), ("sda", "sda2", 512)] {
        let tree = Tree::new();
        tree.add_disk(disk, 16, sector, &parts());
        fs::write(tree.path().join("dev").join(root), b"LUKS").unwrap();
        tree.set_loader_partition(ESP_UUID);
        let mut found = find(&tree).unwrap();
        assert_eq!((names(&found), slugs(&found)), (vec![root], vec![]));
        let candidate = &mut found.candidates[0];
        let size = u64::from(sector) * 128;
        assert_eq!((candidate.disk.as_str(), candidate.partition), (disk, 2));
        assert_eq!((candidate.device.major, candidate.device.minor), (254, 18));
        assert_eq!((candidate.start, candidate.size, candidate.sector.bytes()), (size, size, sector));
        assert_eq!(candidate.part_uuid.to_string(), ROOT_UUID);
        assert!(candidate.growfs && !candidate.read_only);
        let mut content = String::new();
        candidate.file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "LUKS");
    }
}

#[test]
fn a_disk_that_appears_late_piece_by_piece_is_found() {
    let tree = Tree::new();
    tree.set_loader_partition(ESP_UUID);
    let [esp, root] = parts();
    let script: [&dyn Fn(); 6] = [
        &|| {},
        // sysfs knows it, but its node does not exist yet.
        &|| {
            tree.add_blank_disk("vda", 0, 512, &gpt_disk::write(512, 512, &parts()));
            fs::rename(tree.path().join("dev/vda"), tree.path().join("dev/later")).unwrap();
        },
        &|| fs::rename(tree.path().join("dev/later"), tree.path().join("dev/vda")).unwrap(),
        &|| tree.add_partition("vda", 0, 1, 512, &esp),
        &|| {
            tree.add_partition("vda", 0, 2, 512, &root);
            fs::rename(tree.path().join("dev/vda2"), tree.path().join("dev/later")).unwrap();
        },
        &|| fs::rename(tree.path().join("dev/later"), tree.path().join("dev/vda2")).unwrap(),
    ];
    let discovery = Discovery::open(tree.path().to_owned(), Script(Cell::new(0), &script));
    assert_eq!(names(&discovery.find(DEADLINE).unwrap()), ["vda2"]);
}

#[test]
fn a_disk_that_never_appears_is_reported_with_what_was_seen() {
    let tree = Tree::new();
    let error = find(&tree).unwrap_err();
    assert_eq!(error.slug(), "root-not-found");
    assert!(error.to_string().contains("within 60 s: no disk at all"), "{error}");
    let [esp, _] = parts();
    tree.add_disk("vda", 0, 512, &[esp]);
    tree.set_loader_partition(ROOT_UUID);
    let error = find(&tree).unwrap_err();
    assert_eq!(error.slug(), "root-not-found");
    for word in ["1 disk, vda with partitions 1 ESP", ROOT_UUID] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_foreign_disk_that_comes_first_is_not_the_last_word() {
    let tree = Tree::new();
    tree.add_disk("vda", 0, 512, &parts());
    let script: [&dyn Fn(); 1] = [&|| tree.add_disk("vdb", 16, 512, &parts())];
    let discovery = Discovery::open(tree.path().to_owned(), Script(Cell::new(0), &script));
    let first = discovery.find(DEADLINE).unwrap();
    assert_eq!(names(&first), ["vda2"]);
    let tried: BTreeSet<_> = first.candidates.iter().map(|candidate| candidate.instance).collect();
    let second = discovery.find_beyond(&tried, DEADLINE).unwrap();
    assert_eq!(names(&second), ["vdb2"]);
    let tried: BTreeSet<_> =
        first.candidates.iter().chain(&second.candidates).map(|candidate| candidate.instance).collect();
    let error = discovery.find_beyond(&tried, DEADLINE).unwrap_err();
    assert_eq!(error.slug(), "root-not-found");
    assert!(error.to_string().ends_with("; 2 tried before"), "{error}");
}

#[test]
fn a_disk_that_takes_the_place_of_one_that_was_tried_is_looked_at() {
    let tree = Tree::new();
    tree.add_disk("vda", 0, 512, &parts());
    tree.write("sys/class/block/vda/diskseq", 9);
    // Another disk with the same name and numbers.
    let script: [&dyn Fn(); 1] = [&|| tree.write("sys/class/block/vda/diskseq", 10)];
    let discovery = Discovery::open(tree.path().to_owned(), Script(Cell::new(0), &script));
    let first = discovery.find(DEADLINE).unwrap();
    let tried: BTreeSet<_> = first.candidates.iter().map(|candidate| candidate.instance).collect();
    assert_eq!(names(&discovery.find_beyond(&tried, DEADLINE).unwrap()), ["vda2"]);
}

#[test]
fn a_host_that_attaches_disk_after_disk_comes_to_an_end() {
    let tree = Tree::new();
    tree.add_disk("vda", 0, 512, &parts());
    let next = Cell::new(0);
    let replug = || {
        next.set(next.get() + 1);
        tree.write("sys/class/block/vda/diskseq", next.get());
    };
    let script: Vec<&dyn Fn()> = vec![&replug; 2 * CANDIDATES_LIMIT];
    let discovery = Discovery::open(tree.path().to_owned(), Script(Cell::new(0), &script));
    let mut tried = BTreeSet::new();
    let end = loop {
        match discovery.find_beyond(&tried, DEADLINE) {
            Ok(found) => tried.extend(found.candidates.iter().map(|candidate| candidate.instance)),
            Err(error) => break error,
        }
    };
    assert_eq!((tried.len(), end.slug()), (CANDIDATES_LIMIT, "root-too-many"));
}

#[test]
fn of_very_many_root_partitions_only_some_are_opened() {
    let tree = Tree::new();
    let root = |first: u64| {
        let uuid = format!("22222222-2222-4222-8222-{first:012}");
        Part::new(&Guid::NATIVE_ROOT, &uuid, first, first + 7)
    };
    let parts: Vec<Part> = (0..).take(CANDIDATES_LIMIT + 9).map(|number| root(64 + 8 * number)).collect();
    tree.add_disk("vda", 0, 512, &parts);
    let found = find(&tree).unwrap();
    assert_eq!(
        (found.candidates.len(), slugs(&found)),
        (CANDIDATES_LIMIT, vec!["root-several", "root-too-many"])
    );
    let text = found.notes.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("vda8 and 17 more") && text.contains(", 9 more are not looked at"), "{text}");
}

#[test]
fn a_cloned_disk_makes_two_candidates() {
    let tree = Tree::new();
    tree.add_disk("vda", 0, 512, &parts());
    tree.add_disk("vdb", 16, 512, &parts());
    tree.set_loader_partition(ESP_UUID);
    let found = find(&tree).unwrap();
    assert_eq!(names(&found), ["vda2", "vdb2"]);
    assert_eq!(slugs(&found), ["loader-partition-duplicate", "root-several"]);
}

#[test]
fn a_broken_table_does_not_stop_another_disk() {
    let tree = Tree::new();
    let mut broken = gpt_disk::write(512, 512, &parts());
    let last = broken.len() - 1;
    broken[1024] ^= 1;
    broken[last - 511] ^= 1;
    tree.add_blank_disk("vda", 0, 512, &broken);
    assert_eq!(find(&tree).unwrap_err().slug(), "gpt-invalid");
    tree.add_disk("vdb", 16, 512, &parts());
    let found = find(&tree).unwrap();
    assert_eq!((names(&found), slugs(&found)), (vec!["vdb2"], vec!["disk-refused"]));
}

#[test]
fn a_partition_that_the_kernel_sees_elsewhere_is_refused() {
    let tree = Tree::new();
    tree.add_disk("vda", 0, 512, &parts());
    tree.write("sys/class/block/vda/vda2/start", 129);
    assert_eq!(find(&tree).unwrap_err().slug(), "partition-kernel-mismatch");
}

#[test]
fn a_partition_whose_node_is_no_disk_is_refused() {
    let tree = Tree::new();
    tree.add_disk("vda", 0, 512, &parts());
    fs::remove_file(tree.path().join("dev/vda2")).unwrap();
    symlink("/dev/zero", tree.path().join("dev/vda2")).unwrap();
    assert_eq!(find(&tree).unwrap_err().slug(), "device-refused");
}

#[test]
fn sectors_of_another_size_are_a_fact_for_the_report() {
    let tree = Tree::new();
    tree.add_disk("vda", 0, 512, &parts());
    tree.write("sys/class/block/vda/queue/logical_block_size", 520);
    let error = find(&tree).unwrap_err();
    assert_eq!(error.slug(), "root-not-found");
    assert!(error.to_string().contains("Logical sectors of 520 bytes"), "{error}");
}

#[test]
fn a_malformed_loader_variable_is_refused() {
    let tree = Tree::new();
    tree.add_disk("vda", 0, 512, &parts());
    tree.set_loader_partition("not a uuid");
    assert_eq!(find(&tree).unwrap_err().slug(), "loader-variable-malformed");
}

#[test]
fn optical_drives_and_paths_of_multipath_disks_are_not_looked_at() {
    let tree = Tree::new();
    tree.add_disk("sr0", 0, 512, &parts());
    tree.add_disk("nvme0c0n1", 16, 512, &parts());
    tree.write("sys/class/block/nvme0c0n1/hidden", 1);
    let error = find(&tree).unwrap_err();
    assert!(error.to_string().contains("no disk at all"), "{error}");
}
