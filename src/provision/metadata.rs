//! A volume's metadata in memory, which libcryptsetup changes and which is written back in one step.
//!
//! All changes are made on a copy. Our own parser reads it before the first change and after the last one.
//! [`super::transition`] decides in which order the changes reach the volume.

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
use super::transition::{Change, WriteStep};
use crate::base::error::failures;
use crate::base::secret::{Secret, VolumeKey};
use crate::cryptsetup::{fd_path, quieten};
use crate::format::luks::{Condition, FlagSet, HeaderError, Snapshot};

/// The metadata of one volume: what the disk held, and what it will hold.
pub(super) struct Metadata {
    device: CryptDevice,
    memory: File,
    /// What was read from the volume.
    original: Vec<u8>,
    /// Bytes of one header copy.
    header_size: usize,
    seqid: u64,
    condition: Condition,
    /// Areas (offset, end) of keyslots that were removed.
    abandoned: Vec<(u64, u64)>,
}

impl Metadata {
    /// Reads the metadata of a volume once and checks it with our own parser before libcryptsetup sees it.
    pub(super) fn read(target: &Target, flags: &FlagSet) -> Result<(Self, Snapshot), MetadataError> {
        let (window, length, sector) = (target.window(), target.length(), target.sector_size());
        let size =
            Snapshot::read(&window, length, sector, flags).map_err(MetadataError::Header)?.segment().offset;
        let size = usize::try_from(size.min(MAX_METADATA)).map_err(|_| MetadataError::Exhausted)?;
        let original = target.read_start(size).map_err(MetadataError::Target)?;
        // The bytes that were checked here are the ones used from here on.
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
        let (seqid, condition) = (snapshot.seqid(), snapshot.condition());
        let abandoned = Vec::new();
        Ok((Self { device, memory, original, header_size, seqid, condition, abandoned }, snapshot))
    }

    /// Adds a keyslot for the volume key, at the lowest cost that the format allows: the passphrase is a
    /// random secret of 256 bits, which no amount of hashing makes harder to guess.
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

    /// Adds a token and returns its number.
    pub(super) fn add_token(&mut self, token: &serde_json::Value) -> Result<u32, MetadataError> {
        self.device.token_handle().json_set(TokenInput::AddToken(token)).map_err(MetadataError::AddToken)
    }

    /// Replaces a token.
    pub(super) fn replace_token(
        &mut self,
        number: u32,
        token: &serde_json::Value,
    ) -> Result<(), MetadataError> {
        let replaced = self.device.token_handle().json_set(TokenInput::ReplaceToken(number, token));
        replaced.map(|_number| ()).map_err(MetadataError::AddToken)
    }

    /// Removes a token.
    pub(super) fn remove_token(&mut self, number: u32) -> Result<(), MetadataError> {
        let removed = self.device.token_handle().json_set(TokenInput::RemoveToken(number));
        removed.map(|_number| ()).map_err(MetadataError::Remove)
    }

    /// Removes a keyslot. Its area is overwritten once no header names it any more.
    pub(super) fn remove_keyslot(&mut self, before: &Snapshot, number: u32) -> Result<(), MetadataError> {
        let missing = || MetadataError::Header(HeaderError::NoSuchKeyslot(number));
        let entry = before.keyslots().get(&number).ok_or_else(missing)?;
        self.device.keyslot_handle().destroy(number).map_err(MetadataError::Remove)?;
        self.abandoned.push((entry.offset, entry.offset.saturating_add(entry.size)));
        Ok(())
    }

    /// The present metadata.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, MetadataError> {
        let mut bytes = vec![0; self.original.len()];
        self.memory.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// The present metadata, through the strict parser that will read it at boot.
    pub(super) fn snapshot(&self, target: &Target, flags: &FlagSet) -> Result<Snapshot, MetadataError> {
        Snapshot::read(&self.bytes()?, target.length(), target.sector_size(), flags)
            .map_err(MetadataError::Header)
    }

    /// Writes the changes to the volume.
    pub(super) fn write_back(&self, target: &Target) -> Result<(), MetadataError> {
        let after = self.bytes()?;
        let change = Change {
            before: &self.original,
            after: &after,
            header: self.header_size,
            seqid: self.seqid,
            condition: self.condition,
            abandoned: &self.abandoned,
        };
        for step in change.steps().ok_or(MetadataError::Exhausted)? {
            match step {
                WriteStep::Write(offset, bytes) => target.write(&bytes, offset),
                WriteStep::Flush => target.sync(),
            }
            .map_err(MetadataError::Target)?;
        }
        Ok(())
    }
}

/// Why metadata could not be read, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The header is damaged, hostile, or of a kind that we do not support.
    #[error("Reading the LUKS2 header")]
    Header(#[source] HeaderError),
    /// Reading or writing the volume failed.
    #[error("Accessing the volume")]
    Target(#[source] TargetError),
    /// The copy in memory failed.
    #[error("Keeping the metadata in memory")]
    Memory(#[from] io::Error),
    /// libcryptsetup refused what our parser accepted.
    #[error("Loading the metadata")]
    Load(#[source] LibcryptErr),
    /// There is no room for another keyslot, or none is free.
    #[error("Adding a keyslot")]
    AddKeyslot(#[source] LibcryptErr),
    /// There is no room for another token, or none is free.
    #[error("Adding a token")]
    AddToken(#[source] LibcryptErr),
    /// Removing something failed.
    #[error("Removing a keyslot or a token")]
    Remove(#[source] LibcryptErr),
    /// A number in the header is too high for a change.
    #[error("The header's size or sequence number is out of range")]
    Exhausted,
}

failures! { MetadataError:
    Self::Header(source) => from source;
    Self::Target(source) => from source;
    Self::Memory(_) => "memory-failed", Os, "";
    Self::Load(_) => "luks-not-loaded", Data, "";
    Self::AddKeyslot(_) => "keyslot-not-added", Data,
        "Remove a keyslot that is no longer needed: cryptsetup luksKillSlot";
    Self::AddToken(_) => "token-not-added", Data, "";
    Self::Remove(_) => "keyslot-not-removed", Data, "";
    Self::Exhausted => "luks-seqid", Data, "";
}

/// The fewest iterations that LUKS2 allows for PBKDF2; systemd uses the same for sealed secrets.
const MIN_PBKDF2_ITERATIONS: u32 = 1000;
/// Bytes: two copies of the largest header and the largest keyslots area (LUKS2 on-disk format, 2 and 3.4).
const MAX_METADATA: u64 = (2 * 4 + 128) << 20;
