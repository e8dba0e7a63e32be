use std::collections::BTreeMap;

use super::*;
use crate::discover::sysfs::DeviceNumber;
use crate::format::gpt::gpt_disk;
use crate::format::gpt::gpt_disk::Part;

const ESP_UUID: &str = "11111111-1111-4111-8111-111111111111";
const ROOT_UUID: &str = "22222222-2222-4222-8222-222222222222";
const OTHER_UUID: &str = "33333333-3333-4333-8333-333333333333";

fn esp() -> Part {
    Part::new(&Guid::ESP, ESP_UUID, 64, 127)
}

fn root() -> Part {
    Part::new(&Guid::NATIVE_ROOT, ROOT_UUID, 128, 255)
}

fn second_root() -> Part {
    Part::new(&Guid::NATIVE_ROOT, OTHER_UUID, 256, 383)
}

fn loader() -> LoaderPartition {
    LoaderPartition::Known(Guid::parse(ESP_UUID).unwrap())
}

/// A disk whose table and kernel view agree.
fn facts(name: &str, parts: &[Part]) -> DiskFacts {
    let bytes = gpt_disk::write(512, 512, parts);
    let size = u64::try_from(bytes.len()).unwrap();
    let table = Table::read(&bytes, size, SectorSize::B512).unwrap();
    let number = |minor| DeviceNumber { major: 254, minor };
    let partitions: BTreeMap<u32, KernelPartition> = table
        .partitions
        .iter()
        .map(|p| {
            let name = format!("{name}{}", p.number);
            let number = number(u64::from(p.number));
            (p.number, KernelPartition { name, number, start: p.start, size: p.size, read_only: false })
        })
        .collect();
    let disk = Disk {
        name: name.to_owned(),
        number: number(0),
        diskseq: None,
        size,
        sector_size: 512,
        read_only: false,
        partitions,
    };
    DiskFacts { disk, table: Ok((SectorSize::B512, table)) }
}

fn names(decision: &Decision) -> Vec<&str> {
    match &decision.selection {
        Selection::Wait => Vec::new(),
        Selection::Candidates(proposals) => proposals.iter().map(|p| p.kernel.name.as_str()).collect(),
    }
}

fn slugs(decision: &Decision) -> Vec<&str> {
    decision.notes.iter().map(Note::slug).collect()
}

#[test]
fn the_boot_disk_has_the_loaders_partition() {
    let other_esp = Part::new(&Guid::ESP, OTHER_UUID, 64, 127);
    let disks = [facts("vda", &[other_esp, root()]), facts("vdb", &[esp(), root()])];
    let decision = select(&disks, loader(), Guid::NATIVE_ROOT);
    assert_eq!((names(&decision), slugs(&decision)), (vec!["vdb2"], vec![]));
}

#[test]
fn an_extended_boot_partition_identifies_the_boot_disk_too() {
    let xbootldr = Part::new(&Guid::XBOOTLDR, ESP_UUID, 64, 127);
    let decision = select(&[facts("vda", &[xbootldr, root()])], loader(), Guid::NATIVE_ROOT);
    assert_eq!(names(&decision), ["vda2"]);
}

#[test]
fn a_partition_of_another_type_does_not_make_a_boot_disk() {
    let data = Part::new(OTHER_UUID, ESP_UUID, 64, 127);
    let decision = select(&[facts("vda", &[data, root()])], loader(), Guid::NATIVE_ROOT);
    assert_eq!(decision.selection, Selection::Wait);
}

#[test]
fn without_the_loaders_variable_all_disks_are_candidates() {
    let disks = [facts("vda", &[root()]), facts("vdb", &[esp(), root()])];
    let decision = select(&disks, LoaderPartition::Unknown, Guid::NATIVE_ROOT);
    assert_eq!((names(&decision), slugs(&decision)), (vec!["vda1", "vdb2"], vec!["root-several"]));
}

#[test]
fn a_cloned_disk_makes_two_candidates_and_a_note() {
    let disks = [facts("vda", &[esp(), root()]), facts("vdb", &[esp(), root()])];
    let decision = select(&disks, loader(), Guid::NATIVE_ROOT);
    assert_eq!(names(&decision), ["vda2", "vdb2"]);
    assert_eq!(slugs(&decision), ["loader-partition-duplicate", "root-several"]);
}

#[test]
fn a_label_never_chooses() {
    let (old, new) = (root().label("root_1"), second_root().label("root_2"));
    let decision = select(&[facts("vda", &[esp(), old, new])], loader(), Guid::NATIVE_ROOT);
    assert_eq!(names(&decision), ["vda2", "vda3"]);
}

#[test]
fn partitions_that_are_not_to_be_discovered_are_passed_over() {
    let (hidden, empty) = (root().attributes(1 << 63), second_root().label("_empty"));
    let decision = select(&[facts("vda", &[esp(), hidden, empty])], loader(), Guid::NATIVE_ROOT);
    assert_eq!((decision.selection, decision.notes), (Selection::Wait, vec![]));
}

#[test]
fn read_only_and_growfs_are_honoured() {
    let flags = |attributes, disk_read_only| {
        let mut facts = facts("vda", &[root().attributes(attributes)]);
        facts.disk.read_only = disk_read_only;
        match select(&[facts], LoaderPartition::Unknown, Guid::NATIVE_ROOT).selection {
            Selection::Candidates(proposals) => (proposals[0].read_only, proposals[0].growfs),
            Selection::Wait => panic!("no candidate"),
        }
    };
    assert_eq!(flags(0, false), (false, false));
    assert_eq!(flags(1 << 60, false), (true, false));
    assert_eq!(flags(1 << 59, false), (false, true));
    assert_eq!(flags(1 << 59, true), (true, false));
    assert_eq!(flags(1 << 59 | 1 << 60, false), (true, false));
}

#[test]
fn the_kernel_must_see_the_partition_where_the_table_says() {
    for (start, size) in [(512, 0), (0, 512)] {
        let mut facts = facts("vda", &[esp(), root()]);
        let kernel = facts.disk.partitions.get_mut(&2).unwrap();
        kernel.start += start;
        kernel.size += size;
        let decision = select(&[facts], loader(), Guid::NATIVE_ROOT);
        assert_eq!(decision.selection, Selection::Wait);
        assert_eq!(slugs(&decision), ["partition-kernel-mismatch"]);
    }
}

#[test]
fn a_partition_that_the_kernel_has_not_made_yet_is_waited_for() {
    let mut facts = facts("vda", &[esp(), root()]);
    facts.disk.partitions.remove(&2);
    let decision = select(&[facts], loader(), Guid::NATIVE_ROOT);
    assert_eq!((&decision.selection, slugs(&decision)), (&Selection::Wait, vec!["partition-not-there"]));
}

#[test]
fn a_broken_table_does_not_stop_other_disks() {
    let mut broken = facts("vda", &[esp(), root()]);
    let fault = crate::format::gpt::Fault::Overlap;
    broken.table = Err(GptError::Invalid { primary: fault, backup: fault }.into());
    let mut blank = facts("vdb", &[]);
    blank.table = Err(GptError::Missing.into());
    let decision = select(&[broken, blank, facts("vdc", &[esp(), root()])], loader(), Guid::NATIVE_ROOT);
    assert_eq!((names(&decision), slugs(&decision)), (vec!["vdc2"], vec!["disk-refused"]));
}

#[test]
fn the_root_of_another_architecture_is_no_candidate() {
    let foreign = Guid::parse(OTHER_UUID).unwrap();
    let decision = select(&[facts("vda", &[esp(), root()])], loader(), foreign);
    assert_eq!(decision.selection, Selection::Wait);
}
