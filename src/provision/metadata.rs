//! A volume's metadata in memory: changed there by libcryptsetup, brought back in one step.
//!
//! All changes happen on a copy. Writing back first fills keyslot areas that no header names yet, then replaces
//! one copy of the header after the other, each step durable before the next. A cut leaves the old header, or the
//! new one, in at least one valid copy, and every keyslot that either of them names is complete.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use libcryptsetup_rs::consts::flags::{CryptPbkdf, CryptVolumeKey};
use libcryptsetup_rs::consts::vals::{CryptKdf, EncryptionFormat};
use libcryptsetup_rs::{
    CryptDevice, CryptInit, CryptParamsLuks2Ref, CryptPbkdfType, Either, LibcryptErr, TokenInput,
};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::target::{Target, TargetError};
use crate::cryptsetup::{fd_path, quieten};
use crate::error::{Class, Failure};
use crate::luks::{FlagSet, HeaderError, Snapshot, renumber};
use crate::secret::{Secret, VolumeKey};

/// The metadata of one volume: what the disk held, and what it shall hold.
pub(super) struct Metadata {
    device: CryptDevice,
    memory: File,
    /// What was read from the volume.
    original: Vec<u8>,
    /// Bytes of one header copy.
    header_size: usize,
    seqid: u64,
}

impl Metadata {
    /// Reads the metadata of a volume once and checks it by our own parser before libcryptsetup sees it.
    pub(super) fn read(target: &Target, flags: &FlagSet) -> Result<(Self, Snapshot), MetadataError> {
        let (window, length, sector) = (target.window(), target.length(), target.sector_size());
        let size =
            Snapshot::read(&window, length, sector, flags).map_err(MetadataError::Header)?.segment().offset;
        let size = usize::try_from(size.min(MAX_METADATA)).map_err(|_| MetadataError::Exhausted)?;
        let original = target.read_start(size).map_err(MetadataError::Target)?;
        // This reading counts: the bytes that it checked are the bytes that go on.
        let snapshot = Snapshot::read(&original, length, sector, flags).map_err(MetadataError::Header)?;

        let mut memory =
            File::from(memfd_create(c"luks2-metadata", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        memory.write_all(&original)?;
        quieten();
        let mut device = CryptInit::init(&fd_path(&memory)).map_err(MetadataError::Load)?;
        device
            .context_handle()
            .load::<CryptParamsLuks2Ref>(Some(EncryptionFormat::Luks2), None)
            .map_err(MetadataError::Load)?;
        let header_size =
            usize::try_from(snapshot.header_size().bytes()).map_err(|_| MetadataError::Exhausted)?;
        let seqid = snapshot.seqid();
        Ok((Self { device, memory, original, header_size, seqid }, snapshot))
    }

    /// Adds a keyslot for the volume key, at the lowest cost that the format allows: the passphrase is a random
    /// secret of 256 bits, which no amount of hashing makes harder to guess.
    pub(super) fn add_keyslot(&mut self, key: &VolumeKey, passphrase: &Secret) -> Result<u32, MetadataError> {
        let cost = CryptPbkdfType {
            type_: CryptKdf::Pbkdf2,
            hash: Some("sha512".to_owned()),
            time_ms: 0,
            iterations: MIN_PBKDF2_ITERATIONS,
            max_memory_kb: 0,
            parallel_threads: 0,
            flags: CryptPbkdf::NO_BENCHMARK,
        };
        self.device.settings_handle().set_pbkdf_type(&cost).map_err(MetadataError::AddKeyslot)?;
        self.device
            .keyslot_handle()
            .add_by_key(None, Some(Either::Left(key.expose())), passphrase.expose(), CryptVolumeKey::empty())
            .map_err(MetadataError::AddKeyslot)
    }

    /// Adds a token; its number is the answer.
    pub(super) fn add_token(&mut self, token: &serde_json::Value) -> Result<u32, MetadataError> {
        self.device.token_handle().json_set(TokenInput::AddToken(token)).map_err(MetadataError::AddToken)
    }

    /// The metadata as it is now.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, MetadataError> {
        let mut bytes = vec![0; self.original.len()];
        self.memory.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Brings the changes to the volume.
    pub(super) fn write_back(&self, target: &Target) -> Result<(), MetadataError> {
        let changed = self.bytes()?;
        let areas = self.header_size.saturating_mul(2);
        for (index, (new, old)) in changed.chunks(BLOCK).zip(self.original.chunks(BLOCK)).enumerate() {
            let offset = index.saturating_mul(BLOCK);
            if offset >= areas && new != old {
                target.write(new, to_u64(offset)).map_err(MetadataError::Target)?;
            }
        }
        target.sync().map_err(MetadataError::Target)?;
        // libcryptsetup counted each of its changes; for the volume they are one.
        let seqid = self.seqid.checked_add(1).ok_or(MetadataError::Exhausted)?;
        for (index, copy) in changed.chunks(self.header_size).take(2).enumerate() {
            let copy = renumber::with_seqid(copy, seqid).ok_or(MetadataError::Exhausted)?;
            let offset = index.saturating_mul(self.header_size);
            target.write(&copy, to_u64(offset)).map_err(MetadataError::Target)?;
            target.sync().map_err(MetadataError::Target)?;
        }
        Ok(())
    }
}

fn to_u64(offset: usize) -> u64 {
    // usize has at most 64 bits on every target that Linux runs on.
    u64::try_from(offset).unwrap_or(u64::MAX)
}

/// Why metadata could not be read, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The header is damaged, hostile, or of a kind that we do not open.
    #[error("Reading the LUKS2 header")]
    Header(#[source] HeaderError),
    /// Reading or writing the volume.
    #[error("Accessing the volume")]
    Target(#[source] TargetError),
    /// The copy in memory.
    #[error("Keeping the metadata in memory")]
    Memory(#[from] io::Error),
    /// libcryptsetup refuses what our parser accepted.
    #[error("Loading the metadata")]
    Load(#[source] LibcryptErr),
    /// No room, or no keyslot left.
    #[error("Adding a keyslot")]
    AddKeyslot(#[source] LibcryptErr),
    /// No room, or no token left.
    #[error("Adding a token")]
    AddToken(#[source] LibcryptErr),
    /// A number in the header leaves no room for a change.
    #[error("The header's size or sequence number is out of range")]
    Exhausted,
}

impl Failure for MetadataError {
    fn slug(&self) -> &'static str {
        match self {
            Self::Header(source) => source.slug(),
            Self::Target(source) => source.slug(),
            Self::Memory(_) => "memory-failed",
            Self::Load(_) => "luks-not-loaded",
            Self::AddKeyslot(_) => "keyslot-not-added",
            Self::AddToken(_) => "token-not-added",
            Self::Exhausted => "luks-seqid",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Header(source) => source.class(),
            Self::Target(source) => source.class(),
            Self::Memory(_) => Class::Os,
            Self::Load(_) | Self::AddKeyslot(_) | Self::AddToken(_) | Self::Exhausted => Class::Data,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Header(source) => source.hint(),
            Self::Target(source) => source.hint(),
            Self::AddKeyslot(_) => "Remove a keyslot that is no longer needed: cryptsetup luksKillSlot",
            _ => "",
        }
    }
}

/// The fewest iterations that LUKS2 allows for PBKDF2; systemd uses the same for sealed secrets.
const MIN_PBKDF2_ITERATIONS: u32 = 1000;
/// Bytes: two copies of the largest header and the largest keyslots area (LUKS2 on-disk format, 2 and 3.4).
const MAX_METADATA: u64 = (2 * 4 + 128) << 20;
/// Unit in which changed keyslot areas are written: the alignment of the areas (LUKS2 on-disk format, 1.3).
const BLOCK: usize = 4096;
