use std::collections::BTreeMap;
use std::process::Command;

use proptest::prelude::*;

use super::fault::crc;
use super::gpt_disk;
use super::gpt_disk::Part;
use super::*;

const ESP_UUID: &str = "11111111-1111-4111-8111-111111111111";
const ROOT_UUID: &str = "22222222-2222-4222-8222-222222222222";
const SECTORS: u64 = 512;
const MIB: u64 = 1 << 20;

fn honest(sector: SectorSize) -> Vec<u8> {
    let parts = [
        Part::new(&Guid::ESP, ESP_UUID, 64, 127),
        Part::new(&Guid::NATIVE_ROOT, ROOT_UUID, 128, 255).attributes(1 << 59).label("root"),
    ];
    gpt_disk::write(sector.bytes(), SECTORS, &parts)
}

fn read(disk: &Vec<u8>) -> Result<Table, GptError> {
    Table::read(disk, u64::try_from(disk.len()).unwrap(), SectorSize::B512)
}

/// Overwrites `bytes` at `at` of the header at `lba`, then corrects both checksums, as a hostile host does.
fn forge(disk: &mut [u8], lba: usize, at: usize, bytes: &[u8]) {
    disk[lba * 512 + at..][..bytes.len()].copy_from_slice(bytes);
    seal(disk, lba);
}

fn seal(disk: &mut [u8], lba: usize) {
    let header = lba * 512;
    let number = |disk: &[u8], at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&disk[header + at..][..size]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let array = number(disk, 72, 8).saturating_mul(512);
    let size = number(disk, 80, 4).saturating_mul(number(disk, 84, 4));
    if let Some(entries) = array.checked_add(size).and_then(|end| disk.get(array..end)) {
        let sum = crc(&[entries]).to_le_bytes();
        disk[header + 88..][..4].copy_from_slice(&sum);
    }
    disk[header + 16..][..4].fill(0);
    let length = number(disk, 12, 4).min(512);
    let sum = crc(&[&disk[header..header + length]]).to_le_bytes();
    disk[header + 16..][..4].copy_from_slice(&sum);
}

/// The fault of the primary copy after this forgery in it, with the backup destroyed.
fn fault_of(at: usize, bytes: &[u8]) -> Fault {
    let mut disk = honest(SectorSize::B512);
    let last = disk.len() / 512 - 1;
    disk[last * 512..].fill(0xff);
    forge(&mut disk, 1, at, bytes);
    match read(&disk) {
        Err(GptError::Invalid { primary, .. }) => primary,
        other => panic!("{other:?}"),
    }
}

/// Likewise for the entry of `index`.
fn entry_fault(index: usize, at: usize, bytes: &[u8]) -> Fault {
    let mut disk = honest(SectorSize::B512);
    let last = disk.len() / 512 - 1;
    disk[last * 512..].fill(0xff);
    disk[1024 + index * 128 + at..][..bytes.len()].copy_from_slice(bytes);
    seal(&mut disk, 1);
    match read(&disk) {
        Err(GptError::Invalid { primary, .. }) => primary,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tables_are_read_with_both_sector_sizes() {
    for sector in SectorSize::ALL {
        let disk = honest(sector);
        let table = Table::read(&disk, u64::try_from(disk.len()).unwrap(), sector).unwrap();
        let root = &table.partitions[1];
        assert_eq!((table.copy, table.partitions.len()), (Copy::Primary, 2));
        assert_eq!(
            (root.number, root.kind, root.uuid.to_string().as_str()),
            (2, Guid::NATIVE_ROOT, ROOT_UUID)
        );
        assert_eq!(
            (root.start, root.size),
            (128 * u64::from(sector.bytes()), 128 * u64::from(sector.bytes()))
        );
        assert!(root.attributes.growfs() && !root.attributes.read_only() && !root.attributes.no_auto());
        assert_eq!(root.label.to_string(), "root");
    }
}

#[test]
fn the_other_sector_size_is_no_table() {
    let disk = honest(SectorSize::B512);
    let size = u64::try_from(disk.len()).unwrap();
    assert!(matches!(Table::read(&disk, size, SectorSize::B4096), Err(GptError::Missing)));
}

#[test]
fn a_disk_larger_than_its_table_is_normal() {
    let mut disk = honest(SectorSize::B512);
    let table = read(&disk).unwrap();
    disk.resize(disk.len() * 4, 0);
    assert_eq!(read(&disk).unwrap(), table);
}

#[test]
fn the_backup_is_where_the_sound_primary_header_says() {
    let mut disk = honest(SectorSize::B512);
    let table = read(&disk).unwrap();
    disk.resize(disk.len() * 4, 0);
    disk[1024] ^= 1;
    assert_eq!(read(&disk).unwrap(), Table { copy: Copy::Backup, ..table });
}

#[test]
fn the_backup_is_in_the_last_sector_when_the_primary_header_is_damaged() {
    let mut disk = honest(SectorSize::B512);
    let table = read(&disk).unwrap();
    disk[512..1024].fill(0);
    assert_eq!(read(&disk).unwrap(), Table { copy: Copy::Backup, ..table });
}

#[test]
fn a_damaged_primary_header_is_no_guide_to_the_backup() {
    let mut disk = honest(SectorSize::B512);
    disk.resize(disk.len() * 4, 0);
    disk[512 + 56] ^= 1;
    let fault = read(&disk);
    assert!(
        matches!(fault, Err(GptError::Invalid { primary: Fault::HeaderCrc, backup: Fault::Signature })),
        "{fault:?}"
    );
}

#[test]
fn a_protective_mbr_is_not_needed() {
    let mut disk = honest(SectorSize::B512);
    disk[..512].fill(0);
    assert!(read(&disk).is_ok());
}

#[test]
fn a_disk_without_table_is_not_a_damaged_one() {
    for size in [0, 511, 512, 1024, 1535, 1536, 65536] {
        assert!(matches!(read(&vec![0; size]), Err(GptError::Missing)), "{size}");
    }
}

#[test]
fn headers_out_of_bounds_are_refused() {
    let u32 = u32::to_le_bytes;
    let u64 = u64::to_le_bytes;
    assert_eq!(fault_of(8, &u32(0x0002_0000)), Fault::Revision);
    for size in [0, 91, 513, u32::MAX] {
        assert_eq!(fault_of(12, &size.to_le_bytes()), Fault::HeaderSize, "{size}");
    }
    assert_eq!(fault_of(24, &u64(2)), Fault::MyLba);
    for alternate in [0, 1, 2, 255, SECTORS, u64::MAX] {
        assert_eq!(fault_of(32, &u64(alternate)), Fault::AlternateLba, "{alternate}");
    }
    assert_eq!(fault_of(40, &u64(SECTORS)), Fault::UsableRange);
    for last in [0, SECTORS, u64::MAX] {
        assert_eq!(fault_of(48, &u64(last)), Fault::UsableRange, "{last}");
    }
    for array in [0, 1, 3, SECTORS, u64::MAX] {
        assert_eq!(fault_of(72, &u64(array)), Fault::ArrayPlace, "{array}");
    }
    for entries in [0, 1025, u32::MAX] {
        assert_eq!(fault_of(80, &entries.to_le_bytes()), Fault::EntryCount, "{entries}");
    }
    for size in [0, 64, 127, 129, 192, 8192, u32::MAX] {
        assert_eq!(fault_of(84, &size.to_le_bytes()), Fault::EntrySize, "{size}");
    }
}

#[test]
fn an_entry_array_beyond_one_mebibyte_is_refused() {
    let mut disk = honest(SectorSize::B512);
    disk.truncate(disk.len() - 512);
    disk[512 + 80..][..4].copy_from_slice(&1024_u32.to_le_bytes());
    forge(&mut disk, 1, 84, &2048_u32.to_le_bytes());
    assert!(matches!(read(&disk), Err(GptError::Invalid { primary: Fault::ArraySize, .. })));
}

#[test]
fn a_partition_outside_the_usable_range_is_refused() {
    for first in [0_u64, 1, 33, 256, u64::MAX] {
        assert_eq!(entry_fault(1, 32, &first.to_le_bytes()), Fault::PartitionRange, "{first}");
    }
    for last in [0_u64, 127, SECTORS - 1, u64::MAX] {
        assert_eq!(entry_fault(1, 40, &last.to_le_bytes()), Fault::PartitionRange, "{last}");
    }
}

#[test]
fn overlapping_partitions_are_refused() {
    for first in [64_u64, 127] {
        assert_eq!(entry_fault(1, 32, &first.to_le_bytes()), Fault::Overlap, "{first}");
    }
}

#[test]
fn a_partition_uuid_that_is_used_twice_is_refused() {
    let esp = honest(SectorSize::B512)[1024 + 16..][..16].to_vec();
    assert_eq!(entry_fault(1, 16, &esp), Fault::DuplicateUuid);
    assert_eq!(entry_fault(1, 16, &[0; 16]), Fault::DuplicateUuid);
}

#[test]
fn a_hostile_label_prints_no_control_characters() {
    let mut disk = honest(SectorSize::B512);
    disk[1024 + 128 + 56..][..8].copy_from_slice(&[0x1b, 0, b'[', 0, 0x00, 0xd8, b'\n', 0]);
    seal(&mut disk, 1);
    let label = read(&disk).unwrap().partitions[1].label.to_string();
    assert!(label.starts_with("\u{fffd}[\u{fffd}") && !label.contains(char::is_control), "{label:?}");
}

/// An independent writer with its own layout: 4 KiB alignment, a type given by GUID, attribute 60.
#[test]
fn a_table_written_by_sgdisk_is_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8 * MIB).unwrap();
    let status = Command::new("sgdisk")
        .args(["--clear", "--set-alignment=8", "--new=2:2048:+1M", "--typecode=2:ef00"])
        .arg(format!("--partition-guid=2:{ESP_UUID}"))
        .args(["--new=7:8192:+2M", &format!("--typecode=7:{}", Guid::NATIVE_ROOT)])
        .args([
            &format!("--partition-guid=7:{ROOT_UUID}"),
            "--change-name=7:Ünïcode",
            "--attributes=7:set:60",
        ])
        .arg(file.path())
        .output()
        .expect("sgdisk (package gdisk) is needed");
    assert!(status.status.success(), "{status:?}");
    let mut disk = std::fs::read(file.path()).unwrap();
    let table = read(&disk).unwrap();
    let [esp, root] = table.partitions.as_slice() else { panic!("{table:?}") };
    assert_eq!((esp.number, esp.kind, esp.uuid.to_string().as_str()), (2, Guid::ESP, ESP_UUID));
    assert_eq!((esp.start, esp.size), (MIB, MIB));
    assert_eq!((root.number, root.start, root.size), (7, 4 * MIB, 2 * MIB));
    assert!(root.attributes.read_only());
    assert_eq!(root.label.to_string(), "Ünïcode");
    disk[512] = 0;
    assert_eq!(read(&disk).unwrap(), Table { copy: Copy::Backup, ..table });
}

/// Disjoint partitions with random attributes and names.
fn layouts() -> impl Strategy<Value = Vec<Part>> {
    let part = (1_u64..64, 0_u64..16, any::<u64>(), 1_u128.., any::<[u8; 16]>(), "[a-z0-9äß_]{0,36}");
    prop::collection::vec(part, 0..8).prop_map(|parts| {
        let mut next = 40;
        let mut layout = BTreeMap::new();
        for (length, gap, attributes, kind, uuid, label) in parts {
            let first = next + gap;
            next = first + length;
            let kind = Guid::from_disk(kind.to_le_bytes());
            let part = Part::new(&kind, &Guid::from_disk(uuid), first, next - 1);
            layout.insert(uuid, part.attributes(attributes).label(&label));
        }
        layout.into_values().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_of_the_gpt_crate_are_read_as_they_were_written(layout in layouts(), large: bool) {
        let sector = if large { SectorSize::B4096 } else { SectorSize::B512 };
        let disk = gpt_disk::write(sector.bytes(), 1024, &layout);
        let table = Table::read(&disk, u64::try_from(disk.len()).unwrap(), sector).unwrap();
        prop_assert_eq!(table.partitions.len(), layout.len());
        for (number, (read, written)) in (1..).zip(table.partitions.iter().zip(&layout)) {
            prop_assert_eq!(read.number, number);
            prop_assert_eq!(read.kind.to_string(), written.kind.clone());
            prop_assert_eq!(read.uuid.to_string(), written.uuid.clone());
            prop_assert_eq!(read.start, written.first_lba * u64::from(sector.bytes()));
            prop_assert_eq!(read.size, (written.last_lba - written.first_lba + 1) * u64::from(sector.bytes()));
            prop_assert_eq!(read.attributes, Attributes(written.attributes));
            prop_assert_eq!(read.label.to_string(), written.label.clone());
        }
    }

    #[test]
    fn damage_anywhere_is_survived_or_refused_but_never_changes_a_partition(
        at in 0_usize..(512 * 512), value: u8
    ) {
        let mut disk = honest(SectorSize::B512);
        let table = read(&disk).unwrap();
        disk[at] = value;
        prop_assert_eq!(read(&disk).unwrap().partitions, table.partitions);
    }

    /// The host can compute a CRC. Whatever it writes, the partitions that we read stay inside the disk and
    /// disjoint.
    #[test]
    fn a_forged_table_is_refused_or_sound(
        patches in prop::collection::vec((prop_oneof![520_usize..604, 1024_usize..1408], any::<u8>()), 0..6)
    ) {
        let mut disk = honest(SectorSize::B512);
        for (at, value) in patches {
            disk[at] = value;
        }
        seal(&mut disk, 1);
        if let Ok(table) = read(&disk) {
            let mut ranges: Vec<_> = table.partitions.iter().map(|p| (p.start, p.start + p.size)).collect();
            ranges.sort_unstable();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            prop_assert!(ranges.iter().all(|(start, end)| start < end && *end <= 512 * SECTORS && *start >= 1024));
        }
    }

    /// As above, with the gpt crate as a second opinion: where both accept a table, both see the same
    /// partitions. The crate supports entries of 128 bytes only (and panics on others), so their size is not
    /// varied.
    #[test]
    fn what_the_gpt_crate_accepts_too_is_read_alike(
        patches in prop::collection::vec((prop_oneof![1 => 552_usize..596, 4 => 1024_usize..1536], any::<u8>()), 0..6)
    ) {
        let mut disk = honest(SectorSize::B512);
        for (at, value) in patches {
            disk[at] = value;
        }
        seal(&mut disk, 1);
        let theirs = gpt::GptConfig::new().open_from_device(std::io::Cursor::new(disk.clone()));
        if let (Ok(ours), Ok(theirs)) = (read(&disk), theirs)
            && ours.copy == Copy::Primary
        {
            let read = ours.partitions.iter().map(|p| {
                let last = (p.start + p.size) / 512 - 1;
                (p.number, p.kind.to_string(), p.uuid.to_string(), p.start / 512, last, p.attributes.0)
            });
            let theirs: Vec<_> = theirs.partitions().iter().filter(|(_, p)| p.is_used()).map(|(number, p)| {
                let kind = p.part_type_guid.guid.to_string();
                (*number, kind, p.part_guid.to_string(), p.first_lba, p.last_lba, p.flags)
            }).collect();
            prop_assert_eq!(read.collect::<Vec<_>>(), theirs);
        }
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(mut disk in prop::collection::vec(any::<u8>(), 0..4096), sign: bool) {
        if sign && disk.len() >= 1024 {
            disk[512..520].copy_from_slice(b"EFI PART");
            seal(&mut disk, 1);
        }
        let _ = read(&disk);
    }
}
