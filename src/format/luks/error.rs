//! Why a LUKS2 header is refused. Each fault has its own slug, so that a test, a log and a fleet can tell
//! attacks apart.

use std::io;

use thiserror::Error;

use crate::base::error::failures;
use crate::base::json::JsonError;

/// The header cannot be read, or is not one that we open.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// Reading from the device failed.
    #[error("Cannot read {what}")]
    Read {
        /// Which bytes.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Neither copy of the header is usable; holds the fault of the primary.
    #[error("No usable LUKS2 header")]
    Damaged(#[source] Damage),
    /// A LUKS header of another version.
    #[error("LUKS version {0} is not supported, only version 2")]
    Version(u16),
    /// The primary copy is damaged and more than one secondary copy is valid.
    #[error("Damaged primary header and more than one secondary")]
    Ambiguous,
    /// Both copies have the same sequence number but different contents.
    #[error("The two copies of the header contradict each other")]
    CopiesDiffer,
    /// The sequence numbers of the two copies are too far apart for an interrupted write.
    #[error("The two copies of the header have the sequence numbers {primary} and {secondary}")]
    Sequence {
        /// Of the primary copy.
        primary: u64,
        /// Of the secondary copy.
        secondary: u64,
    },
    /// The UUID is not in canonical form.
    #[error("The header's UUID is not a lower-case UUID")]
    Uuid,
    /// The JSON is malformed.
    #[error("Cannot parse the header's metadata")]
    Json(#[from] JsonError),
    /// A member is missing, unknown, or of the wrong type.
    #[error("Metadata member {at} {problem}")]
    Member {
        /// Path of the member.
        at: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A member has a value that no enrolment writes, or that we do not support.
    #[error("Metadata member {at}: {refusal}")]
    Refused {
        /// Path of the member.
        at: String,
        /// What is refused.
        refusal: HeaderRefusal,
    },
    /// The keyslot does not exist.
    #[error("Keyslot {0} does not exist")]
    NoSuchKeyslot(u32),
}

/// What our allow-list does not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderRefusal {
    /// `cipher_null`, with which an attacker gets data written in clear.
    #[error("the null cipher is refused")]
    CipherNull,
    /// A cipher other than AES-XTS.
    #[error("only aes-xts-plain64 is accepted")]
    Cipher,
    /// Not a key size of AES-XTS, or not the same size everywhere.
    #[error("the key size is not that of the volume's cipher")]
    KeySize,
    /// Not exactly one segment.
    #[error("only a single segment is accepted")]
    SegmentCount,
    /// A `linear` segment: data in clear.
    #[error("an unencrypted segment is refused")]
    SegmentLinear,
    /// A segment of another type.
    #[error("only segments of type crypt are accepted")]
    SegmentType,
    /// A segment with flags, as reencryption leaves them.
    #[error("segment flags are refused")]
    SegmentFlags,
    /// A segment that lies outside the volume, overlaps the header, or is not aligned.
    #[error("the segment does not lie inside the volume")]
    SegmentRange,
    /// A segment with dm-integrity.
    #[error("authenticated encryption is not supported yet")]
    Integrity,
    /// A tweak offset other than zero.
    #[error("only an IV tweak of zero is accepted")]
    IvTweak,
    /// A sector size that dm-crypt does not support.
    #[error("the sector size is not 512, 1024, 2048 or 4096")]
    SectorSize,
    /// `config.requirements`.
    #[error("requirements are refused")]
    Requirements,
    /// A flag that the configuration does not allow.
    #[error("an activation flag is not allowed by the configuration")]
    Flag,
    /// The size of the JSON area or of the keyslots area contradicts the header.
    #[error("the size contradicts the header")]
    AreaSize,
    /// A `reencrypt` keyslot.
    #[error("an unfinished reencryption is refused")]
    Reencrypt,
    /// A keyslot of another type.
    #[error("only keyslots of type luks2 are accepted")]
    KeyslotType,
    /// A split other than LUKS1's with 4000 stripes.
    #[error("only the anti-forensic split of LUKS1 with 4000 stripes is accepted")]
    Split,
    /// A hash that is not on the allow-list.
    #[error("only sha256, sha384 and sha512 are accepted")]
    Hash,
    /// A salt of another length.
    #[error("a salt has 32 bytes")]
    Salt,
    /// A key derivation that is not on the allow-list.
    #[error("only pbkdf2, argon2i and argon2id are accepted")]
    Kdf,
    /// A key derivation that would take minutes or all memory.
    #[error("the cost of the key derivation is out of bounds")]
    KdfCost,
    /// A keyslot area that lies outside the keyslots area, is not aligned, or has a wrong size.
    #[error("the area does not lie inside the keyslots area")]
    AreaRange,
    /// The areas of two keyslots overlap.
    #[error("the area overlaps that of another keyslot")]
    AreaOverlap,
    /// Not exactly one digest for the segment, or a digest for objects that do not exist.
    #[error("the segment has not exactly one digest")]
    DigestCount,
    /// A digest of another type or of a wrong length.
    #[error("only pbkdf2 digests of full length are accepted")]
    Digest,
    /// No keyslot holds the volume key.
    #[error("no keyslot belongs to the segment")]
    NoKeyslot,
}

/// Why there is no valid copy of the header at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// The magic is missing.
    #[error("The LUKS2 magic is missing")]
    Magic,
    /// Another version.
    #[error("The header has version {0}")]
    Version(u16),
    /// A size that is not allowed.
    #[error("The header's size {0} is not allowed")]
    Size(u64),
    /// The header says that it belongs at another offset.
    #[error("The header says that it lies at {0}")]
    Offset(u64),
    /// A checksum algorithm other than SHA-256.
    #[error("The header's checksum algorithm is not sha256")]
    ChecksumAlgorithm,
    /// The checksum is wrong.
    #[error("The header's checksum does not hold")]
    Checksum,
    /// The volume ends before the copy does.
    #[error("The volume is too small for the header")]
    TooSmall,
}

failures! { Damage:
    Self::Magic => "luks-magic", Data, "";
    Self::Version(_) => "luks-version", Data, "";
    Self::Size(_) => "luks-header-size", Data, "";
    Self::Offset(_) => "luks-header-offset", Data, "";
    Self::ChecksumAlgorithm => "luks-checksum-algorithm", Data, "";
    Self::Checksum => "luks-checksum", Data, "";
    Self::TooSmall => "luks-too-small", Data, "";
}

failures! { HeaderError:
    Self::Read { .. } => "luks-read", Os, "";
    Self::Damaged(damage) => from damage;
    Self::Version(_) => "luks-version", Data, "";
    Self::Ambiguous => "luks-copies-ambiguous", Data, "";
    Self::CopiesDiffer => "luks-copies-differ", Data, "";
    Self::Sequence { .. } => "luks-copies-sequence", Data, "";
    Self::Uuid => "luks-uuid", Data, "";
    Self::Json(JsonError::DuplicateKey(_)) => "luks-duplicate-key", Data, "";
    Self::Json(JsonError::Depth | JsonError::Size) => "luks-json-limit", Data, "";
    Self::Json(JsonError::Number) => "luks-json-number", Data, "";
    Self::Json(JsonError::Trailing | JsonError::NotTerminated) => "luks-json-trailing", Data, "";
    Self::Json(JsonError::NotAnObject | JsonError::Syntax(_) | JsonError::Nul | JsonError::Encoding) =>
        "luks-json", Data, "";
    Self::Member { .. } => "luks-metadata", Data, "";
    Self::Refused { refusal, .. } => from refusal;
    Self::NoSuchKeyslot(_) => "luks-no-such-keyslot", Data, "";
}

failures! { HeaderRefusal:
    Self::CipherNull => "luks-cipher-null", Data, "";
    Self::Cipher => "luks-cipher", Data, "";
    Self::KeySize => "luks-key-size", Data, "";
    Self::SegmentCount => "luks-segment-count", Data, "";
    Self::SegmentLinear => "luks-segment-linear", Data, "";
    Self::SegmentType => "luks-segment-type", Data, "";
    Self::SegmentFlags => "luks-segment-flags", Data, "";
    Self::SegmentRange => "luks-segment-range", Data, "";
    Self::Integrity => "luks-integrity", Data, "";
    Self::IvTweak => "luks-iv-tweak", Data, "";
    Self::SectorSize => "luks-sector-size", Data, "";
    Self::Requirements => "luks-requirements", Data,
        "Finish the reencryption with cryptsetup on a trusted machine";
    Self::Flag => "luks-flag", Data,
        "Name the flag in the measured configuration, or remove it from the header";
    Self::AreaSize => "luks-area-size", Data, "";
    Self::Reencrypt => "luks-reencrypt", Data, "Finish the reencryption with cryptsetup on a trusted machine";
    Self::KeyslotType => "luks-keyslot-type", Data, "";
    Self::Split => "luks-split", Data, "";
    Self::Hash => "luks-hash", Data, "";
    Self::Salt => "luks-salt", Data, "";
    Self::Kdf => "luks-kdf", Data, "";
    Self::KdfCost => "luks-kdf-cost", Data, "";
    Self::AreaRange => "luks-area-range", Data, "";
    Self::AreaOverlap => "luks-area-overlap", Data, "";
    Self::DigestCount => "luks-digest-count", Data, "";
    Self::Digest => "luks-digest", Data, "";
    Self::NoKeyslot => "luks-no-keyslot", Data, "";
}

impl HeaderRefusal {
    /// This refusal, of the member at `at`.
    pub(super) fn at(self, at: impl Into<String>) -> HeaderError {
        HeaderError::Refused { at: at.into(), refusal: self }
    }
}
