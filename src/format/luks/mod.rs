//! Parses LUKS2 metadata, which is untrusted, into a [`Snapshot`] of typed values. It is read once and never
//! again. libcryptsetup does not parse the original: it sees a header that we write from the snapshot
//! ([`emit`]).

mod binary_header;
pub mod binding;
mod cipher;
mod copies;
mod digest;
pub mod emit;
mod error;
mod flags;
pub mod kdf;
pub mod keyslot;
pub(in crate::format) mod members;
mod metadata;
mod read;
pub mod renumber;
mod segment;
pub mod token_type;

use std::collections::BTreeMap;

use serde_json::Value;

pub use binary_header::{BinaryHeader, HeaderSize, Label};
pub use cipher::{Cipher, Hash};
pub use copies::Condition;
pub use digest::Digest;
pub use error::{Damage, HeaderError, HeaderRefusal};
pub use flags::{Flag, FlagSet};
pub use kdf::{Kdf, Salt};
pub use keyslot::{Area, Entry, Keyslot};
pub use metadata::{Bounds, Metadata};
pub use segment::{Segment, SegmentSize};

use crate::base::source::Source;
use crate::base::uuid::Uuid;

/// A volume's metadata as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    header: BinaryHeader,
    metadata: Metadata,
    condition: Condition,
    volume_size: u64,
}

/// One keyslot with its encrypted bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyslotArea {
    number: u32,
    keyslot: Keyslot,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Reads and checks the metadata of a volume of `size` bytes, on a device with logical sectors of
    /// `sector_size` bytes. Reads each byte at most once.
    ///
    /// # Errors
    /// Reading fails, or the metadata is refused.
    pub fn read(
        source: &(impl Source + ?Sized),
        size: u64,
        sector_size: u32,
        allowed_flags: &FlagSet,
    ) -> Result<Self, HeaderError> {
        let (copy, condition) = read::read(source, size)?;
        let bounds = Bounds { header: copy.header.size, volume: size, sector_size };
        let metadata = Metadata::parse(&copy.json, bounds, allowed_flags)?;
        Ok(Self { header: copy.header, metadata, condition, volume_size: size })
    }

    /// Reads the encrypted bytes of a keyslot, once.
    ///
    /// # Errors
    /// There is no such keyslot, or reading fails.
    pub fn read_area(
        &self,
        source: &(impl Source + ?Sized),
        number: u32,
    ) -> Result<KeyslotArea, HeaderError> {
        let keyslot = self.keyslot(number)?;
        // At most 1 MiB, by the metadata's own limit.
        let mut bytes = vec![0; usize::try_from(keyslot.area.size).unwrap_or(0)];
        let what = "the keyslot area";
        let read = source.read_at(&mut bytes, keyslot.area.offset);
        read.map_err(|source| HeaderError::Read { what, source })?;
        Ok(KeyslotArea { number, keyslot, bytes })
    }

    /// The volume's UUID.
    #[must_use]
    pub const fn uuid(&self) -> &Uuid {
        &self.header.uuid
    }

    /// The volume's label; untrusted, for display only.
    #[must_use]
    pub const fn label(&self) -> &Label {
        &self.header.label
    }

    /// The encrypted data.
    #[must_use]
    pub const fn segment(&self) -> &Segment {
        &self.metadata.segment
    }

    /// Bytes of encrypted data on this volume: whole sectors.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        // The segment was checked against this same size.
        self.metadata.segment.length(self.volume_size).unwrap_or(0)
    }

    /// The keyslots that hold the volume key, by number, not checked in full yet.
    #[must_use]
    pub const fn keyslots(&self) -> &BTreeMap<u32, Entry> {
        &self.metadata.keyslots
    }

    /// The keyslot `number`, checked in full.
    ///
    /// # Errors
    /// It does not exist, does not hold the volume key, or has parameters that we do not accept.
    pub fn keyslot(&self, number: u32) -> Result<Keyslot, HeaderError> {
        self.metadata.keyslots.get(&number).ok_or(HeaderError::NoSuchKeyslot(number))?.judge()
    }

    /// The volume key's digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.metadata.digest
    }

    /// The tokens by number: complete for the types that we support, `type` and `keyslots` only for others.
    #[must_use]
    pub const fn tokens(&self) -> &BTreeMap<u32, Value> {
        &self.metadata.tokens
    }

    /// Activation flags, all of them allowed by the configuration.
    #[must_use]
    pub const fn flags(&self) -> &FlagSet {
        &self.metadata.flags
    }

    /// Bytes of one copy of the header.
    #[must_use]
    pub const fn header_size(&self) -> HeaderSize {
        self.header.size
    }

    /// The header's sequence number.
    #[must_use]
    pub const fn seqid(&self) -> u64 {
        self.header.seqid
    }

    /// The state of the two copies.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        self.condition
    }
}

impl KeyslotArea {
    /// The keyslot's number on the disk.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The keyslot's parameters.
    #[must_use]
    pub const fn keyslot(&self) -> &Keyslot {
        &self.keyslot
    }

    /// The encrypted bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
