//! Faults of one copy of a partition table, and helpers to take its bytes apart.

/// What is wrong with one copy of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum Fault {
    #[error("no signature")]
    Signature,
    #[error("unknown revision")]
    Revision,
    #[error("header size out of bounds")]
    HeaderSize,
    #[error("header checksum")]
    HeaderCrc,
    #[error("header not where it says it is")]
    MyLba,
    #[error("other header at an impossible place")]
    AlternateLba,
    #[error("usable range outside the disk")]
    UsableRange,
    #[error("number of entries out of bounds")]
    EntryCount,
    #[error("entry size out of bounds")]
    EntrySize,
    #[error("entry array too large")]
    ArraySize,
    #[error("entry array at an impossible place")]
    ArrayPlace,
    #[error("entry array checksum")]
    ArrayCrc,
    #[error("partition outside the usable range")]
    PartitionRange,
    #[error("overlapping partitions")]
    Overlap,
    #[error("partition UUID zero or not unique")]
    DuplicateUuid,
}

/// `N` bytes of a structure at `at`. A structure that is too short counts as missing.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Fault> {
    let end = at.checked_add(N).ok_or(Fault::HeaderSize)?;
    bytes.get(at..end).and_then(|field| field.try_into().ok()).ok_or(Fault::HeaderSize)
}

/// The CRC of UEFI 2.10, 5.3.2, over the concatenation of `parts`.
pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = CRC.digest();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
