//! Uses libcryptsetup with headers that we wrote ourselves, from validated values, in sealed memory.
//!
//! The library does what we do not want to reimplement: keyslot decryption, anti-forensic merging, digest
//! verification, and loading the dm table.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libcryptsetup_rs::consts::flags::CryptActivate;
use libcryptsetup_rs::consts::vals::EncryptionFormat;
use libcryptsetup_rs::{CryptDevice, CryptInit, CryptParamsLuks2Ref, Either, LibcryptErr};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use zeroize::Zeroizing;

use crate::base::secret::{Secret, VolumeKey};

/// A volume's header in sealed memory, and libcryptsetup's view of it.
pub struct Detached {
    device: CryptDevice,
    /// Keeps the memory behind `/proc/self/fd/N` alive.
    _header: File,
}

impl Detached {
    /// Puts `header` into sealed memory and loads it. `data` is the block device that a later activation
    /// maps; without it, only keyslots can be opened.
    ///
    /// # Errors
    /// The system's, and the library's if it refuses the header.
    pub fn load(header: &[u8], data: Option<&Path>) -> Result<Self, CryptError> {
        quieten();
        let memory = sealed(header).map_err(CryptError::Seal)?;
        let path = fd_path(&memory);
        let mut device = match data {
            None => CryptInit::init(&path),
            Some(data) => CryptInit::init_with_data_device(Either::Right((&path, data))),
        }
        .map_err(CryptError::Load)?;
        device
            .context_handle()
            .load::<CryptParamsLuks2Ref>(Some(EncryptionFormat::Luks2), None)
            .map_err(CryptError::Load)?;
        Ok(Self { device, _header: memory })
    }

    /// Opens the header's only keyslot. The library checks the key against the digest.
    ///
    /// # Errors
    /// `Open` if the passphrase does not fit, `KeySize` if the key does not have exactly `size` bytes.
    pub fn volume_key(&mut self, passphrase: &Secret, size: usize) -> Result<VolumeKey, CryptError> {
        let mut buffer = Zeroizing::new(vec![0; MAX_VOLUME_KEY]);
        let (_slot, length) = self
            .device
            .volume_key_handle()
            .get(Some(0), &mut buffer, Some(passphrase.expose()))
            .map_err(CryptError::Open)?;
        let key = buffer.get(..length).filter(|key| key.len() == size).ok_or(CryptError::KeySize)?;
        Ok(VolumeKey::new(Secret::copy_of(key)))
    }

    /// Maps the data device as `name`.
    ///
    /// # Errors
    /// The library's.
    pub fn activate(&mut self, name: &str, key: &VolumeKey, read_only: bool) -> Result<(), CryptError> {
        let flags = if read_only { CryptActivate::READONLY } else { CryptActivate::empty() };
        self.device
            .activate_handle()
            .activate_by_volume_key(Some(name), Some(key.expose()), flags)
            .map_err(CryptError::Activate)
    }

    /// Removes the mapping `name`.
    ///
    /// # Errors
    /// The library's.
    pub fn deactivate(&mut self, name: &str) -> Result<(), CryptError> {
        self.device
            .activate_handle()
            .deactivate(name, libcryptsetup_rs::consts::flags::CryptDeactivate::empty())
            .map_err(CryptError::Deactivate)
    }
}

/// An error of libcryptsetup, or of the memory that holds its header.
#[derive(Debug, thiserror::Error)]
pub enum CryptError {
    /// memfd.
    #[error("Putting the header into sealed memory")]
    Seal(#[source] io::Error),
    /// `crypt_init`, `crypt_load`.
    #[error("Loading the re-emitted header")]
    Load(#[source] LibcryptErr),
    /// `crypt_volume_key_get`.
    #[error("Opening the keyslot")]
    Open(#[source] LibcryptErr),
    /// The key is not as long as the cipher needs.
    #[error("The keyslot holds a key of another length than the cipher's")]
    KeySize,
    /// `crypt_activate_by_volume_key`.
    #[error("Mapping the volume")]
    Activate(#[source] LibcryptErr),
    /// `crypt_deactivate`.
    #[error("Removing the mapping")]
    Deactivate(#[source] LibcryptErr),
}

/// Redirects the library's messages to our log. By default it prints them.
pub(crate) fn quieten() {
    libcryptsetup_rs::set_log_callback::<()>(Some(crate::sys::crypt_log::receive), None);
}

/// A memfd with `bytes` that cannot be changed, grown or shrunk.
fn sealed(bytes: &[u8]) -> io::Result<File> {
    let name: &CStr = c"luks2-header";
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(bytes)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// A path by which a library can open the file behind one of our descriptors.
pub(crate) fn fd_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// AES-256-XTS needs 64 bytes; one more shows a key that is too long.
const MAX_VOLUME_KEY: usize = 65;
