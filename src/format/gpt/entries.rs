//! Parses the partition entry array. The array is untrusted; accepted partitions lie inside the usable range
//! and do not overlap.

use std::collections::BTreeSet;

use super::fault::{Fault, crc, field};
use super::header::Header;
use super::sector::SectorSize;
use super::{Attributes, Label, Partition};
use crate::format::efi::guid::Guid;

/// Parses the array that `header` describes (UEFI 2.10, table 5.6); the partitions are in the array's order.
pub(super) fn parse(header: &Header, array: &[u8], sector: SectorSize) -> Result<Vec<Partition>, Fault> {
    if array.len() != header.array_size()? {
        return Err(Fault::ArraySize);
    }
    if crc(&[array]) != header.array_crc {
        return Err(Fault::ArrayCrc);
    }
    let mut partitions = Vec::new();
    let mut uuids = BTreeSet::new();
    for (number, bytes) in (1_u32..).zip(array.chunks_exact(header.entry_size)) {
        let Some(partition) = entry(header, number, bytes, sector)? else { continue };
        if !uuids.insert(partition.uuid) {
            return Err(Fault::DuplicateUuid);
        }
        partitions.push(partition);
    }
    check_overlaps(&partitions)?;
    Ok(partitions)
}

/// One entry; `None` for an unused one.
fn entry(header: &Header, number: u32, bytes: &[u8], sector: SectorSize) -> Result<Option<Partition>, Fault> {
    let kind = Guid::from_disk(field(bytes, 0)?);
    if kind == Guid::ZERO {
        return Ok(None);
    }
    let uuid = Guid::from_disk(field(bytes, 16)?);
    if uuid == Guid::ZERO {
        return Err(Fault::DuplicateUuid);
    }
    let first = u64::from_le_bytes(field(bytes, 32)?);
    let last = u64::from_le_bytes(field(bytes, 40)?);
    if first > last || first < header.first_usable || last > header.last_usable {
        return Err(Fault::PartitionRange);
    }
    let in_bytes = |sectors: u64| sectors.checked_mul(u64::from(sector.bytes())).ok_or(Fault::PartitionRange);
    let length = last.checked_sub(first).and_then(|rest| rest.checked_add(1)).ok_or(Fault::PartitionRange)?;
    Ok(Some(Partition {
        number,
        kind,
        uuid,
        start: in_bytes(first)?,
        size: in_bytes(length)?,
        attributes: Attributes(u64::from_le_bytes(field(bytes, 48)?)),
        label: Label::from_disk(field(bytes, 56)?),
    }))
}

fn check_overlaps(partitions: &[Partition]) -> Result<(), Fault> {
    let mut ranges: Vec<(u64, u64)> = partitions.iter().map(|p| (p.start, p.size)).collect();
    ranges.sort_unstable();
    let mut end = 0_u64;
    for (start, size) in ranges {
        if start < end {
            return Err(Fault::Overlap);
        }
        end = start.checked_add(size).ok_or(Fault::PartitionRange)?;
    }
    Ok(())
}
