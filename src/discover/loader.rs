//! Reads `LoaderDevicePartUUID`, the partition that the boot loader or the stub was started from. The
//! firmware is untrusted: the value proposes a disk and proves nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::format::efi::efivar::partition_uuid;
use crate::format::efi::guid::Guid;

/// The value of the variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoaderPartition {
    /// We were started from this partition.
    Known(Guid),
    /// There is no such variable: the host's loader started the UKI directly, or there is no EFI or no
    /// efivarfs.
    Unknown,
}

impl LoaderPartition {
    /// Reads the variable below `root`.
    ///
    /// # Errors
    /// The operating system's, and [`EfivarError::Malformed`].
    pub fn read(root: &Path) -> Result<Self, EfivarError> {
        let mut content = Vec::new();
        let file = match File::open(root.join(PATH)) {
            Ok(file) => file,
            Err(error) if absent(&error) => return Ok(Self::Unknown),
            Err(error) => return Err(EfivarError::Read(error)),
        };
        match file.take(LIMIT).read_to_end(&mut content) {
            Ok(_) => partition_uuid(&content).map(Self::Known).ok_or(EfivarError::Malformed),
            // Deleted between open and read.
            Err(error) if absent(&error) => Ok(Self::Unknown),
            Err(error) => Err(EfivarError::Read(error)),
        }
    }
}

/// Reading the variable failed.
#[derive(Debug, thiserror::Error)]
pub enum EfivarError {
    /// The operating system's error.
    #[error("Reading the EFI variable LoaderDevicePartUUID")]
    Read(#[source] io::Error),
    /// It is not a UUID.
    #[error("The EFI variable LoaderDevicePartUUID is not a UUID")]
    Malformed,
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The vendor GUID is systemd's, for all variables of the Boot Loader Interface.
const PATH: &str = "sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// More than a UUID's 78 bytes, so that a longer value is noticed.
const LIMIT: u64 = 128;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_variable_and_no_efi_are_normal() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(LoaderPartition::read(root.path()).unwrap(), LoaderPartition::Unknown);
        fs::create_dir_all(root.path().join("sys/firmware/efi/efivars")).unwrap();
        assert_eq!(LoaderPartition::read(root.path()).unwrap(), LoaderPartition::Unknown);
    }

    #[test]
    fn a_variable_without_end_is_not_read_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(PATH);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        assert!(matches!(LoaderPartition::read(root.path()), Err(EfivarError::Malformed)));
    }
}
