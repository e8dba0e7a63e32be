//! Parses a GPT header from one untrusted sector, and checks that all its numbers lie inside the disk. The
//! CRCs stop accidents, not attackers; the ranges stop attackers.

use super::fault::{Fault, crc, field};
use super::sector::SectorSize;
use crate::format::efi::guid::Guid;

/// What the kernel says about the disk, known before its table is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) sector: SectorSize,
    /// Whole logical sectors.
    pub(super) sectors: u64,
}

/// Which copy of the header a sector is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// LBA 1.
    Primary,
    /// This LBA, near the end of the disk.
    Backup(u64),
}

/// A header; all LBAs lie inside the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) alternate_lba: u64,
    pub(super) first_usable: u64,
    pub(super) last_usable: u64,
    pub(super) disk_uuid: Guid,
    pub(super) array_lba: u64,
    /// 1 to 1024.
    pub(super) entries: usize,
    /// 128, 256, … 4096 bytes.
    pub(super) entry_size: usize,
    pub(super) array_crc: u32,
}

impl Header {
    /// Parses one sector (UEFI 2.10, table 5.5).
    pub(super) fn parse(sector: &[u8], place: Place, disk: Geometry) -> Result<Self, Fault> {
        if field::<8>(sector, 0)? != *SIGNATURE {
            return Err(Fault::Signature);
        }
        if u32_at(sector, 8)? != REVISION {
            return Err(Fault::Revision);
        }
        let size = usize::try_from(u32_at(sector, 12)?).map_err(|_| Fault::HeaderSize)?;
        if size < MINIMUM_SIZE {
            return Err(Fault::HeaderSize);
        }
        let before_crc = sector.get(..16).ok_or(Fault::HeaderSize)?;
        let after_crc = sector.get(20..size).ok_or(Fault::HeaderSize)?;
        if crc(&[before_crc, &[0; 4], after_crc]) != u32_at(sector, 16)? {
            return Err(Fault::HeaderCrc);
        }
        let header = Self {
            alternate_lba: u64_at(sector, 32)?,
            first_usable: u64_at(sector, 40)?,
            last_usable: u64_at(sector, 48)?,
            disk_uuid: Guid::from_disk(field(sector, 56)?),
            array_lba: u64_at(sector, 72)?,
            entries: count(u32_at(sector, 80)?)?,
            entry_size: entry_size(u32_at(sector, 84)?)?,
            array_crc: u32_at(sector, 88)?,
        };
        header.check_places(u64_at(sector, 24)?, place, disk)?;
        Ok(header)
    }

    /// Size of the whole entry array in bytes: at most [`ARRAY_LIMIT`].
    pub(super) fn array_size(&self) -> Result<usize, Fault> {
        self.entries.checked_mul(self.entry_size).filter(|size| *size <= ARRAY_LIMIT).ok_or(Fault::ArraySize)
    }

    /// The order on disk is: primary header, primary array, usable range, backup array, backup header. The
    /// disk may continue behind the backup if it was enlarged.
    fn check_places(&self, my_lba: u64, place: Place, disk: Geometry) -> Result<(), Fault> {
        let bytes = u64::try_from(self.array_size()?).map_err(|_| Fault::ArraySize)?;
        let sectors = bytes.div_ceil(u64::from(disk.sector.bytes()));
        let array_end = self.array_lba.checked_add(sectors).ok_or(Fault::ArrayPlace)?;
        if self.first_usable > self.last_usable || self.last_usable >= disk.sectors {
            return Err(Fault::UsableRange);
        }
        match place {
            Place::Primary if my_lba != PRIMARY_LBA => Err(Fault::MyLba),
            Place::Primary if self.array_lba <= PRIMARY_LBA || array_end > self.first_usable => {
                Err(Fault::ArrayPlace)
            }
            Place::Primary
                if self.alternate_lba <= self.last_usable || self.alternate_lba >= disk.sectors =>
            {
                Err(Fault::AlternateLba)
            }
            Place::Backup(lba) if my_lba != lba => Err(Fault::MyLba),
            Place::Backup(lba) if self.array_lba <= self.last_usable || array_end > lba => {
                Err(Fault::ArrayPlace)
            }
            Place::Backup(_) if self.alternate_lba != PRIMARY_LBA => Err(Fault::AlternateLba),
            Place::Backup(_) if self.first_usable <= PRIMARY_LBA => Err(Fault::UsableRange),
            Place::Primary | Place::Backup(_) => Ok(()),
        }
    }
}

/// Where the primary header is (UEFI 2.10, 5.3.1).
pub(super) const PRIMARY_LBA: u64 = 1;

fn count(entries: u32) -> Result<usize, Fault> {
    usize::try_from(entries)
        .ok()
        .filter(|entries| (1..=ENTRIES_LIMIT).contains(entries))
        .ok_or(Fault::EntryCount)
}

/// 128 × 2ⁿ (UEFI 2.10, table 5.5), capped.
fn entry_size(bytes: u32) -> Result<usize, Fault> {
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && (128..=ENTRY_SIZE_LIMIT).contains(bytes))
        .ok_or(Fault::EntrySize)
}

fn u32_at(sector: &[u8], at: usize) -> Result<u32, Fault> {
    field(sector, at).map(u32::from_le_bytes)
}

fn u64_at(sector: &[u8], at: usize) -> Result<u64, Fault> {
    field(sector, at).map(u64::from_le_bytes)
}

/// `EFI PART`.
const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Revision 1.0, the only one.
const REVISION: u32 = 0x0001_0000;
/// Bytes of the defined fields.
const MINIMUM_SIZE: usize = 92;
/// Our own limit: usual tables have 128 entries.
const ENTRIES_LIMIT: usize = 1024;
/// Our own limit: usual entries have 128 bytes.
const ENTRY_SIZE_LIMIT: usize = 4096;
/// Our own limit, 1 MiB: usual arrays have 16 KiB.
const ARRAY_LIMIT: usize = 1 << 20;
