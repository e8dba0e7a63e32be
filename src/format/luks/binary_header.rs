//! Parses the binary header of a LUKS2 volume (on-disk format specification 1.1.4, 2.1): one sector of 4096
//! bytes in front of each copy of the JSON area. Its values are available only after the checksum matches.
//! The checksum is unkeyed: it detects damage, not attacks.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::error::{Damage, HeaderError};
use crate::base::bytes::{Reader, WireError};
use crate::base::uuid::Uuid;

/// The contents of a binary header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryHeader {
    /// Bytes of one copy: binary header and JSON area.
    pub size: HeaderSize,
    /// Sequence number; every write increments it.
    pub seqid: u64,
    /// The volume's label; untrusted, so never used to choose.
    pub label: Label,
    /// The volume's subsystem label.
    pub subsystem: Label,
    /// The volume's UUID.
    pub uuid: Uuid,
}

/// A label of any bytes; shown with escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label(Vec<u8>);

/// Which of the two copies. It decides where the copy must lie, and so its magic and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At offset 0.
    Primary,
    /// Behind a primary copy of this size.
    Secondary(HeaderSize),
}

/// A size of one copy that the specification allows, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderSize(u64);

/// A binary header whose checksum has not been compared yet.
#[derive(Clone, Copy)]
pub(super) struct Unverified<'a> {
    sector: &'a [u8; SECTOR],
    fields: Fields<'a>,
}

impl<'a> Unverified<'a> {
    /// Parses the header at `place`.
    ///
    /// # Errors
    /// It cannot be a header at that place, so nothing behind it is worth reading.
    pub(super) fn parse(sector: &'a [u8; SECTOR], place: Place) -> Result<Self, Damage> {
        // Cannot fail: the fields are 512 bytes.
        let fields = Fields::read(sector).map_err(|_| Damage::Magic)?;
        let (magic, offset) = match place {
            Place::Primary => (MAGIC_PRIMARY, 0),
            Place::Secondary(size) => (MAGIC_SECONDARY, size.bytes()),
        };
        if fields.magic != magic {
            return Err(Damage::Magic);
        }
        if fields.version != VERSION {
            return Err(Damage::Version(fields.version));
        }
        let size = HeaderSize::new(fields.size).ok_or(Damage::Size(fields.size))?;
        if matches!(place, Place::Secondary(expected) if expected != size) {
            return Err(Damage::Size(fields.size));
        }
        if fields.offset != offset {
            return Err(Damage::Offset(fields.offset));
        }
        if text(fields.checksum_algorithm) != Some("sha256") {
            return Err(Damage::ChecksumAlgorithm);
        }
        Ok(Self { sector, fields: Fields { checked_size: size, ..fields } })
    }

    /// Bytes of this copy.
    #[must_use]
    pub(super) const fn size(&self) -> HeaderSize {
        self.fields.checked_size
    }

    /// Compares the checksum over the header and its JSON area, and returns the values.
    ///
    /// # Errors
    /// The checksum is wrong. The inner result: the checksum is right, but a value is invalid.
    pub(super) fn verify(&self, json: &[u8]) -> Result<Result<BinaryHeader, HeaderError>, Damage> {
        let (head, rest) = self.sector.split_at(CHECKSUM_AT);
        let (_, tail) = rest.split_at(CHECKSUM_BYTES);
        let hash = Sha256::new().chain_update(head).chain_update([0; CHECKSUM_BYTES]).chain_update(tail);
        let checksum: [u8; 32] = hash.chain_update(json).finalize().into();
        if self.fields.checksum.first_chunk() != Some(&checksum) {
            return Err(Damage::Checksum);
        }
        Ok(self.values())
    }

    fn values(&self) -> Result<BinaryHeader, HeaderError> {
        Ok(BinaryHeader {
            size: self.fields.checked_size,
            seqid: self.fields.seqid,
            label: Label::parse(self.fields.label),
            subsystem: Label::parse(self.fields.subsystem),
            uuid: text(self.fields.uuid).and_then(Uuid::parse).ok_or(HeaderError::Uuid)?,
        })
    }
}

impl Label {
    /// Reads a field as cryptsetup does: up to the first NUL, ignoring the last byte, which it overwrites
    /// with a NUL.
    pub(super) fn parse(field: &[u8]) -> Self {
        let field = field.split_last().map_or(field, |(_, field)| field);
        Self(field.iter().copied().take_while(|byte| *byte != 0).collect())
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Label {
    /// UTF-8 unchanged; what is not printable and bytes of other encodings as escapes (`\u{202e}`, `\xf6`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.utf8_chunks().try_for_each(|chunk| {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\'' => fmt::Write::write_char(f, character)?,
                    _ => write!(f, "{}", character.escape_debug())?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
        })
    }
}

impl HeaderSize {
    /// All sizes that the specification allows (1.1.4, table 1), smallest first. They are also the possible
    /// offsets of the secondary copy.
    pub const ALL: [Self; 9] = [
        Self(0x4000),
        Self(0x8000),
        Self(0x1_0000),
        Self(0x2_0000),
        Self(0x4_0000),
        Self(0x8_0000),
        Self(0x10_0000),
        Self(0x20_0000),
        Self(0x40_0000),
    ];
    /// The smallest.
    pub const MIN: Self = Self(0x4000);

    /// The size of `bytes` bytes, if it is allowed.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.0 == bytes)
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Bytes of the JSON area.
    #[must_use]
    pub const fn json_bytes(self) -> u64 {
        // Cannot wrap: the smallest size is four sectors.
        self.0.saturating_sub(4096)
    }
}

#[derive(Clone, Copy)]
struct Fields<'a> {
    magic: [u8; 6],
    version: u16,
    size: u64,
    /// `size` after validation.
    checked_size: HeaderSize,
    seqid: u64,
    label: &'a [u8],
    checksum_algorithm: &'a [u8],
    uuid: &'a [u8],
    subsystem: &'a [u8],
    offset: u64,
    checksum: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The structure of the specification 1.1.4, figure 2: big-endian, without padding between the fields.
    fn read(sector: &'a [u8; SECTOR]) -> Result<Self, WireError> {
        let mut reader = Reader::new(sector);
        let magic = reader.array()?;
        let version = reader.u16()?;
        let size = reader.array().map(u64::from_be_bytes)?;
        let seqid = reader.array().map(u64::from_be_bytes)?;
        let label = reader.bytes(48)?;
        let checksum_algorithm = reader.bytes(32)?;
        let _salt = reader.bytes(64)?;
        let uuid = reader.bytes(40)?;
        let subsystem = reader.bytes(48)?;
        let offset = reader.array().map(u64::from_be_bytes)?;
        let _padding = reader.bytes(184)?;
        let checksum = reader.bytes(CHECKSUM_BYTES)?;
        let checked_size = HeaderSize::MIN;
        Ok(Self {
            magic,
            version,
            size,
            checked_size,
            seqid,
            label,
            checksum_algorithm,
            uuid,
            subsystem,
            offset,
            checksum,
        })
    }
}

/// The text of a field that ends with a NUL.
fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(field.get(..end)?).ok()
}

/// Bytes of the binary header.
pub(super) const SECTOR: usize = 4096;
/// Magic of the primary copy.
pub(super) const MAGIC_PRIMARY: [u8; 6] = *b"LUKS\xba\xbe";
/// Magic of the secondary copy.
pub(super) const MAGIC_SECONDARY: [u8; 6] = *b"SKUL\xba\xbe";
/// Version of the format.
pub(super) const VERSION: u16 = 2;
/// Offset of the checksum.
pub(super) const CHECKSUM_AT: usize = 448;
/// Bytes of the checksum's field; SHA-256 uses the first 32.
pub(super) const CHECKSUM_BYTES: usize = 64;

#[cfg(test)]
mod tests;
