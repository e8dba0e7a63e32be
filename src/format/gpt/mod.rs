//! Reads a GUID partition table from an untrusted disk. Accepted partitions lie inside the disk, do not
//! overlap and have distinct UUIDs.
//!
//! Every byte is read once. The protective MBR is ignored: what shows that the disk is in use as a GPT disk
//! is the kernel's own view of the partition, which has to match. Attributes, labels and types are untrusted:
//! they propose candidates and prove nothing.

mod entries;
mod fault;
#[cfg(test)]
#[path = "../../../tests/support/gpt_disk.rs"]
#[expect(unreachable_pub, reason = "shared with the black-box tests")]
pub(crate) mod gpt_disk;
mod header;
pub mod sector;
#[cfg(test)]
mod tests;

use std::{fmt, io};

pub use fault::Fault;
use header::{Geometry, Header, PRIMARY_LBA, Place};

use super::efi::guid::Guid;
use crate::base::source::Source;
use sector::SectorSize;

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// UUID of the disk.
    pub disk_uuid: Guid,
    /// In the order of their numbers; at most 1024.
    pub partitions: Vec<Partition>,
    /// Which copy was used.
    pub copy: Copy,
}

/// Which copy of the table was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// The one at the start of the disk.
    Primary,
    /// The one behind the partitions, because the primary is damaged.
    Backup,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From 1, as the kernel counts.
    pub number: u32,
    /// Type GUID.
    pub kind: Guid,
    /// Unique GUID.
    pub uuid: Guid,
    /// Bytes from the start of the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Attribute bits.
    pub attributes: Attributes,
    /// Name; never used to choose between partitions.
    pub label: Label,
}

/// Attribute bits of a partition, as the Discoverable Partitions Specification (UAPI.2) names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// Bit 59: grow the file system to the size of the partition.
    #[must_use]
    pub const fn growfs(self) -> bool {
        self.0 & (1 << 59) != 0
    }

    /// Bit 60: use read-only.
    #[must_use]
    pub const fn read_only(self) -> bool {
        self.0 & (1 << 60) != 0
    }

    /// Bit 63: do not discover.
    #[must_use]
    pub const fn no_auto(self) -> bool {
        self.0 & (1 << 63) != 0
    }
}

/// Name of a partition: at most 36 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    fn from_disk(bytes: [u8; 72]) -> Self {
        let (pairs, _) = bytes.as_chunks::<2>();
        let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).take_while(|unit| *unit != 0);
        let printable = char::decode_utf16(units)
            .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
            .map(|character| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character });
        Self(printable.collect())
    }

    /// Whether the partition is a free slot of an A/B scheme (UAPI.2: `_empty`).
    #[must_use]
    pub fn is_empty_slot(&self) -> bool {
        self.0 == "_empty"
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Table {
    /// Reads the table of a disk of `size` bytes: the primary copy, or else the backup.
    ///
    /// If a sound primary header has a damaged array, that header says where the backup is; if the primary
    /// header itself is damaged, the backup must be in the last sector. A disk may be larger than its table.
    ///
    /// # Errors
    /// The operating system's; [`GptError::Missing`] without a table; [`GptError::Invalid`] if no copy is
    /// usable.
    pub fn read(source: &(impl Source + ?Sized), size: u64, sector: SectorSize) -> Result<Self, GptError> {
        let sectors = size / u64::from(sector.bytes());
        let last_lba = match sectors.checked_sub(1) {
            Some(last) if last > PRIMARY_LBA => last,
            _ => return Err(GptError::Missing),
        };
        let reader = Reader { source, disk: Geometry { sector, sectors } };
        let (primary, backup_lba) = match reader.header(PRIMARY_LBA, Place::Primary)? {
            Ok(header) => match reader.table(&header, Copy::Primary)? {
                Ok(table) => return Ok(table),
                Err(fault) => (fault, header.alternate_lba),
            },
            Err(fault) => (fault, last_lba),
        };
        let backup = match reader.header(backup_lba, Place::Backup(backup_lba))? {
            Ok(header) => match reader.table(&header, Copy::Backup)? {
                Ok(table) => return Ok(table),
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        match (primary, backup) {
            (Fault::Signature, Fault::Signature) => Err(GptError::Missing),
            _ => Err(GptError::Invalid { primary, backup }),
        }
    }
}

/// Reading a partition table failed.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The operating system's error.
    #[error("Reading the partition table")]
    Read(#[source] io::Error),
    /// Neither copy starts with the signature.
    #[error("There is no GPT")]
    Missing,
    /// There is a table, but no copy of it is usable.
    #[error("The GPT is refused: {primary} (primary), {backup} (backup)")]
    Invalid {
        /// What is wrong with the copy at the start of the disk.
        primary: Fault,
        /// What is wrong with the copy at its end.
        backup: Fault,
    },
}

/// The only part that does I/O.
struct Reader<'a, S: ?Sized> {
    source: &'a S,
    disk: Geometry,
}

impl<S: Source + ?Sized> Reader<'_, S> {
    fn header(&self, lba: u64, place: Place) -> Result<Result<Header, Fault>, GptError> {
        let mut sector = vec![0; usize::try_from(self.disk.sector.bytes()).unwrap_or_default()];
        self.read(&mut sector, lba)?;
        Ok(Header::parse(&sector, place, self.disk))
    }

    fn table(&self, header: &Header, copy: Copy) -> Result<Result<Table, Fault>, GptError> {
        let size = match header.array_size() {
            Ok(size) => size,
            Err(fault) => return Ok(Err(fault)),
        };
        let mut array = vec![0; size];
        self.read(&mut array, header.array_lba)?;
        Ok(entries::parse(header, &array, self.disk.sector).map(|partitions| Table {
            disk_uuid: header.disk_uuid,
            partitions,
            copy,
        }))
    }

    fn read(&self, buffer: &mut [u8], lba: u64) -> Result<(), GptError> {
        let beyond = || GptError::Read(io::ErrorKind::UnexpectedEof.into());
        let offset = lba.checked_mul(u64::from(self.disk.sector.bytes())).ok_or_else(beyond)?;
        self.source.read_at(buffer, offset).map_err(GptError::Read)
    }
}
