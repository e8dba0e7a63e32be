//! Disk images with a GPT written by the `gpt` crate, the oracle for our parser. The crate writes partitions
//! without gaps, so they are numbered from 1 in the order given here.

use std::collections::BTreeMap;
use std::io::Cursor;

use gpt::disk::LogicalBlockSize;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};

/// A partition to write.
#[derive(Clone, Debug)]
pub struct Part {
    /// Type GUID as text.
    pub kind: String,
    /// Unique GUID as text.
    pub uuid: String,
    pub first_lba: u64,
    pub last_lba: u64,
    pub attributes: u64,
    pub label: String,
}

impl Part {
    pub fn new(
        kind: &(impl ToString + ?Sized),
        uuid: &(impl ToString + ?Sized),
        first_lba: u64,
        last_lba: u64,
    ) -> Self {
        let (kind, uuid) = (kind.to_string(), uuid.to_string());
        Self { kind, uuid, first_lba, last_lba, attributes: 0, label: String::new() }
    }

    pub fn attributes(self, attributes: u64) -> Self {
        Self { attributes, ..self }
    }

    pub fn label(self, label: &str) -> Self {
        Self { label: label.to_owned(), ..self }
    }
}

/// A disk of `sectors` sectors of `sector` bytes with these partitions.
pub fn write(sector: u32, sectors: u64, parts: &[Part]) -> Vec<u8> {
    let block = if sector == 4096 { LogicalBlockSize::Lb4096 } else { LogicalBlockSize::Lb512 };
    let size = usize::try_from(sectors * u64::from(sector)).unwrap();
    let mut disk = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(block)
        .create_from_device(Cursor::new(vec![0; size]), None)
        .unwrap();
    let partitions: BTreeMap<u32, Partition> = (1..)
        .zip(parts)
        .map(|(number, part)| {
            let partition = Partition {
                part_type_guid: Type { guid: part.kind.parse().unwrap(), os: OperatingSystem::None },
                part_guid: part.uuid.parse().unwrap(),
                first_lba: part.first_lba,
                last_lba: part.last_lba,
                flags: part.attributes,
                name: part.label.clone(),
            };
            (number, partition)
        })
        .collect();
    disk.update_partitions(partitions).unwrap();
    disk.write().unwrap().into_inner()
}
