//! Finds the LUKS2 volume in an image file or a device, for administrators' commands.
//!
//! The administrator chose the file, but its content is untrusted all the same.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::select::is_root;
use crate::base::error::failures;
use crate::base::source::Source;
use crate::format::efi::guid::Guid;
use crate::format::gpt::sector::SectorSize;
use crate::format::gpt::{GptError, Partition, Table};

/// Where a LUKS2 volume is, or should be, in a file or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Logical sector size of the device, or of the disk in the image; 512 bytes for an image of a bare
    /// volume.
    pub sector: SectorSize,
    /// Its partition; `None` if the file is the volume itself.
    pub partition: Option<Partition>,
}

/// Finds the volume in `source` of `size` bytes: all of it if it starts with LUKS's magic, or else the only
/// root partition of its GPT, whatever that contains. `sector` is known for a device; for an image, 512 bytes
/// are tried and then 4096.
///
/// # Errors
/// The operating system's; [`ImageError`] if there is no volume, or more than one.
pub fn locate(
    source: &(impl Source + ?Sized),
    size: u64,
    sector: Option<SectorSize>,
) -> Result<Volume, ImageError> {
    if is_luks(source, size)? {
        let sector = sector.unwrap_or(SectorSize::B512);
        return Ok(Volume { offset: 0, length: size, sector, partition: None });
    }
    let mut invalid = None;
    let tried = SectorSize::ALL.into_iter().filter(|size| sector.is_none_or(|sector| sector == *size));
    for sector in tried {
        match Table::read(source, size, sector) {
            Ok(table) => return the_only_root(table, sector),
            Err(GptError::Missing) => {}
            Err(error) => invalid = invalid.or(Some(error)),
        }
    }
    Err(invalid.map_or(ImageError::Neither, ImageError::Gpt))
}

/// The size in bytes of an open file or block device, and a device's logical sector size from sysfs below
/// `root`.
///
/// # Errors
/// The operating system's; [`ImageError::Other`] if it is neither.
pub fn measure(file: &mut File, root: &Path) -> Result<(u64, Option<SectorSize>), ImageError> {
    let metadata = file.metadata().map_err(ImageError::Read)?;
    if metadata.is_file() {
        return Ok((metadata.len(), None));
    }
    if !metadata.file_type().is_block_device() {
        return Err(ImageError::Other);
    }
    let size = file.seek(SeekFrom::End(0)).map_err(ImageError::Read)?;
    file.rewind().map_err(ImageError::Read)?;
    let number = format!("{}:{}", major(metadata.rdev()), minor(metadata.rdev()));
    let directory = root.join("sys/dev/block").join(number);
    // A partition has no queue of its own; its disk is one directory up.
    let bytes = ["queue/logical_block_size", "../queue/logical_block_size"]
        .into_iter()
        .find_map(|attribute| std::fs::read_to_string(directory.join(attribute)).ok())
        .and_then(|text| text.trim_end().parse().ok());
    let sector = bytes.and_then(SectorSize::from_bytes).ok_or(ImageError::SectorSize(directory))?;
    Ok((size, Some(sector)))
}

/// Finding the volume failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The operating system's error.
    #[error("Reading the image")]
    Read(#[source] io::Error),
    /// Neither LUKS nor a GPT.
    #[error("This is neither a LUKS2 volume nor a disk with a GPT")]
    Neither,
    /// The GPT is damaged or forged.
    #[error("Looking for the root partition")]
    Gpt(#[source] GptError),
    /// No partition of the root type.
    #[error("There is no root partition of type {}", Guid::NATIVE_ROOT)]
    NoRoot,
    /// Several partitions of the root type.
    #[error("There are several root partitions: {}", list(.0))]
    SeveralRoots(Vec<u32>),
    /// A directory, a character device, …
    #[error("This is neither a file nor a block device")]
    Other,
    /// The sector size is unknown, or neither 512 nor 4096 bytes.
    #[error("The logical sector size of {} is neither 512 nor 4096 bytes", .0.display())]
    SectorSize(PathBuf),
}

failures! { ImageError:
    Self::Read(_) | Self::Gpt(GptError::Read(_)) => "image-unreadable", Os, "";
    Self::Neither | Self::Gpt(GptError::Missing) => "image-unknown", Data, "";
    Self::Gpt(GptError::Invalid { .. }) => "gpt-invalid", Data, "";
    Self::NoRoot => "root-not-found", Data, "`sgdisk --typecode` gives a partition the type of the root.";
    Self::SeveralRoots(_) => "root-several", Data, "Name the device of the partition instead of the disk's.";
    Self::Other => "image-not-a-disk", Usage, "";
    Self::SectorSize(_) => "sector-size-unsupported", Data, "";
}

fn the_only_root(table: Table, sector: SectorSize) -> Result<Volume, ImageError> {
    let mut roots: Vec<Partition> =
        table.partitions.into_iter().filter(|partition| is_root(partition, Guid::NATIVE_ROOT)).collect();
    match (roots.pop(), roots.as_slice()) {
        (None, _) => Err(ImageError::NoRoot),
        (Some(root), []) => {
            Ok(Volume { offset: root.start, length: root.size, sector, partition: Some(root) })
        }
        (Some(last), others) => {
            Err(ImageError::SeveralRoots(others.iter().chain([&last]).map(|root| root.number).collect()))
        }
    }
}

/// Whether it starts with LUKS's magic. The header parser checks the version and the rest.
fn is_luks(source: &(impl Source + ?Sized), size: u64) -> Result<bool, ImageError> {
    let mut magic = [0; 6];
    if size < 6 {
        return Ok(false);
    }
    source.read_at(&mut magic, 0).map_err(ImageError::Read)?;
    Ok(magic == *LUKS_MAGIC)
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Magic of the primary header (LUKS2 On-Disk Format Specification 1.1, 2.1).
const LUKS_MAGIC: &[u8; 6] = b"LUKS\xba\xbe";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use crate::format::gpt::gpt_disk;
    use crate::format::gpt::gpt_disk::Part;

    const UUID: &str = "22222222-2222-4222-8222-222222222222";
    const OTHER_UUID: &str = "33333333-3333-4333-8333-333333333333";

    fn locate_in(image: &Vec<u8>) -> Result<Volume, ImageError> {
        locate(image, u64::try_from(image.len()).unwrap(), None)
    }

    fn slug(image: &Vec<u8>) -> &'static str {
        locate_in(image).unwrap_err().slug()
    }

    #[test]
    fn a_bare_volume_is_the_whole_file() {
        let mut image = vec![0; 4096];
        image[..6].copy_from_slice(LUKS_MAGIC);
        let volume = locate_in(&image).unwrap();
        assert_eq!((volume.offset, volume.length, volume.partition), (0, 4096, None));
    }

    #[test]
    fn the_root_partition_of_an_image_is_found_with_either_sector_size() {
        for sector in SectorSize::ALL {
            let parts = [Part::new(&Guid::NATIVE_ROOT, UUID, 128, 255)];
            let mut image = gpt_disk::write(sector.bytes(), 512, &parts);
            let start = 128 * usize::try_from(sector.bytes()).unwrap();
            image[start..][..6].copy_from_slice(LUKS_MAGIC);
            let volume = locate_in(&image).unwrap();
            assert_eq!((volume.offset, volume.sector), (u64::try_from(start).unwrap(), sector));
            assert_eq!(volume.length, 128 * u64::from(sector.bytes()));
            assert_eq!(volume.partition.unwrap().number, 1);
        }
    }

    #[test]
    fn nothing_is_guessed() {
        assert_eq!(slug(&vec![]), "image-unknown");
        assert_eq!(slug(&vec![0; 65536]), "image-unknown");
        let root = Part::new(&Guid::NATIVE_ROOT, UUID, 128, 255);
        let second = Part::new(&Guid::NATIVE_ROOT, OTHER_UUID, 256, 383);
        assert_eq!(
            slug(&gpt_disk::write(512, 512, &[Part::new(&Guid::ESP, UUID, 64, 127)])),
            "root-not-found"
        );
        assert_eq!(slug(&gpt_disk::write(512, 512, &[root.clone(), second.clone()])), "root-several");
        assert!(locate_in(&gpt_disk::write(512, 512, &[root, second.label("_empty")])).is_ok());
    }

    #[test]
    fn only_files_and_block_devices_are_measured() {
        let mut null = File::open("/dev/null").unwrap();
        assert_eq!(measure(&mut null, Path::new("/")).unwrap_err().slug(), "image-not-a-disk");
    }
}
