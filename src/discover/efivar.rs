//! `LoaderDevicePartUUID`: an EFI variable comes in, the UUID of the partition that the boot loader or the stub was
//! started from goes out. The firmware belongs to the host: the value proposes a disk, it proves nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::guid::Guid;

/// What the variable says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoaderPartition {
    /// We were started from this partition.
    Known(Guid),
    /// There is no such variable: a UKI that the host's loader started directly, or no EFI, or efivarfs is not there.
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
            Ok(_) => parse(&content).map(Self::Known).ok_or(EfivarError::Malformed),
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

/// Four bytes of attributes (Documentation/filesystems/efivarfs.rst), then the UUID's text in UTF-16LE with a final
/// NUL (systemd's Boot Loader Interface).
fn parse(content: &[u8]) -> Option<Guid> {
    let (_attributes, text) = content.split_first_chunk::<4>()?;
    let (units, rest) = text.as_chunks::<2>();
    let (last, units) = units.split_last()?;
    if !rest.is_empty() || u16::from_le_bytes(*last) != 0 {
        return None;
    }
    let text: String = char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit)))
        .collect::<Result<_, _>>()
        .ok()?;
    Guid::parse(&text)
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The vendor GUID is systemd's, for all variables of the Boot Loader Interface.
const PATH: &str = "sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// More than a UUID's 78 bytes, so that a longer value is seen to be longer.
const LIMIT: u64 = 128;

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn variable(text: &str) -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [6, 0, 0, 0].into_iter().chain(units).collect()
    }

    #[test]
    fn the_value_that_systemd_stub_writes_is_read() {
        let uuid = Guid::parse("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(parse(&variable("C12A7328-F81F-11D2-BA4B-00A0C93EC93B\0")), uuid);
        assert_eq!(parse(&variable("c12a7328-f81f-11d2-ba4b-00a0c93ec93b\0")), uuid);
    }

    #[test]
    fn anything_else_is_malformed() {
        let good = variable("C12A7328-F81F-11D2-BA4B-00A0C93EC93B\0");
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "{length}");
        }
        for text in [
            "\0",
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B\0\0",
            "{12A7328-F81F-11D2-BA4B-00A0C93EC93B\0",
            "\u{1f600}\0",
        ] {
            assert_eq!(parse(&variable(text)), None, "{text}");
        }
    }

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

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(content: Vec<u8>) {
            let _ = parse(&content);
        }
    }
}
