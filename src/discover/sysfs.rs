//! Reads the kernel's view of disks and partitions from `sys/class/block`: whole disks that a VM can boot
//! from. The kernel is trusted; the sizes and names that it repeats are not.
//!
//! A disk that appears or disappears meanwhile counts as absent: the next uevent triggers another look.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

/// Major and minor number of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
}

/// One device from plugging in to unplugging; a later device may get the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// The number of the disk, or of its partition.
    pub number: DeviceNumber,
    /// The kernel's sequence number of the disk, unique within a boot; `None` before Linux 5.15.
    pub diskseq: Option<u64>,
}

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Name below `/dev`: `vda`.
    pub name: String,
    /// Device number.
    pub number: DeviceNumber,
    /// The kernel's sequence number of the disk; `None` before Linux 5.15.
    pub diskseq: Option<u64>,
    /// Bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u64,
    /// Whether the kernel refuses to write to it.
    pub read_only: bool,
    /// Those of its partitions that were [looked up](Disk::look_up), by number.
    pub partitions: BTreeMap<u32, KernelPartition>,
}

impl Disk {
    /// Looks up the kernel's view of partition `index`, if it has one, below the `root` that the disk is
    /// from. Each look-up reads six small files, so data partitions are not looked up.
    ///
    /// # Errors
    /// sysfs cannot be read, or is malformed.
    pub fn look_up(&mut self, root: &Path, index: u32) -> Result<(), SysfsError> {
        // The kernel's own rule (block/partitions/core.c): `vda2`, but `nvme0n1p2`.
        let separator = if self.name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        let name = format!("{}{separator}{index}", self.name);
        let path = root.join(CLASS).join(sysfs_name(&self.name)).join(sysfs_name(&name));
        if number::<u32>(&path, "partition")? != Some(index) {
            return Ok(());
        }
        let (Some(device), Some(start), Some(size), Some(read_only)) = (
            device_number(&path)?,
            bytes(&path, "start")?,
            bytes(&path, "size")?,
            number::<u8>(&path, "ro")?,
        ) else {
            return Ok(());
        };
        let partition = KernelPartition { name, number: device, start, size, read_only: read_only != 0 };
        self.partitions.insert(index, partition);
        Ok(())
    }
}

/// A partition in the kernel's view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPartition {
    /// Name below `/dev`: `vda2`.
    pub name: String,
    /// Device number.
    pub number: DeviceNumber,
    /// Bytes from the start of the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Whether the kernel refuses to write to it.
    pub read_only: bool,
}

/// The disks below `root`, by name: no partitions, no stacked or memory-backed devices, no empty drives.
///
/// # Errors
/// sysfs cannot be read, or is malformed.
pub fn disks(root: &Path) -> Result<Vec<Disk>, SysfsError> {
    let class = root.join(CLASS);
    let list = |source| SysfsError::List { directory: class.clone(), source };
    let entries = match fs::read_dir(&class) {
        Ok(entries) => entries,
        // No block device exists yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(list(error)),
    };
    let mut disks = Vec::new();
    for entry in entries {
        let entry = entry.map_err(list)?;
        // No disk driver uses names that are not UTF-8.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if can_be_a_boot_disk(&name) {
            disks.extend(disk(&entry.path(), &name)?);
        }
    }
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(disks)
}

/// Reading the kernel's view of the disks failed.
#[derive(Debug, thiserror::Error)]
pub enum SysfsError {
    /// The operating system's error.
    #[error("Listing {}", directory.display())]
    List {
        /// What we listed.
        directory: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The operating system's error.
    #[error("Reading {}", attribute.display())]
    Read {
        /// What we read.
        attribute: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// An attribute differs from the kernel's documentation.
    #[error("Unexpected content of {}", .0.display())]
    Malformed(PathBuf),
}

/// Devices made of other devices, of files or of memory, and drives for removable media, are not boot disks.
/// Any other name may be one: `vda`, `nvme0n1`, `sda`, `xvda`, `mmcblk0`, …
fn can_be_a_boot_disk(name: &str) -> bool {
    !NOT_BOOT_DISKS.iter().any(|prefix| {
        // `fd0`, but not another name with the same prefix.
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    })
}

/// One whole disk; `None` for partitions, hidden paths, empty drives, and disks that have disappeared
/// meanwhile.
fn disk(directory: &Path, name: &str) -> Result<Option<Disk>, SysfsError> {
    if directory.join("partition").exists() || number::<u8>(directory, "hidden")?.unwrap_or(0) != 0 {
        return Ok(None);
    }
    let (Some(size), Some(device), Some(read_only), Some(sector_size)) = (
        bytes(directory, "size")?,
        device_number(directory)?,
        number::<u8>(directory, "ro")?,
        number(&directory.join("queue"), "logical_block_size")?,
    ) else {
        return Ok(None);
    };
    if size == 0 {
        return Ok(None);
    }
    Ok(Some(Disk {
        name: device_name(name),
        number: device,
        diskseq: number(directory, "diskseq")?,
        size,
        sector_size,
        read_only: read_only != 0,
        partitions: BTreeMap::new(),
    }))
}

/// sysfs writes `!` where a device name has a slash (`cciss!c0d0`).
fn device_name(name: &str) -> String {
    name.replace('!', "/")
}

fn sysfs_name(name: &str) -> String {
    name.replace('/', "!")
}

/// An attribute in units of 512 bytes, whatever the sector size (Documentation/ABI/stable/sysfs-block).
fn bytes(directory: &Path, attribute: &str) -> Result<Option<u64>, SysfsError> {
    let Some(units) = number::<u64>(directory, attribute)? else { return Ok(None) };
    let malformed = || SysfsError::Malformed(directory.join(attribute));
    units.checked_mul(512).ok_or_else(malformed).map(Some)
}

fn device_number(directory: &Path) -> Result<Option<DeviceNumber>, SysfsError> {
    let Some(text) = text(directory, "dev")? else { return Ok(None) };
    text.trim_end()
        .split_once(':')
        .and_then(|(major, minor)| {
            Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
        })
        .ok_or_else(|| SysfsError::Malformed(directory.join("dev")))
        .map(Some)
}

fn number<T: FromStr>(directory: &Path, attribute: &str) -> Result<Option<T>, SysfsError> {
    let Some(text) = text(directory, attribute)? else { return Ok(None) };
    text.trim_end().parse().map(Some).map_err(|_| SysfsError::Malformed(directory.join(attribute)))
}

/// The attribute's text; `None` if the attribute or the device does not exist.
fn text(directory: &Path, attribute: &str) -> Result<Option<String>, SysfsError> {
    let attribute = directory.join(attribute);
    match fs::read_to_string(&attribute) {
        Ok(text) => Ok(Some(text)),
        Err(error) if gone(&error) => Ok(None),
        Err(source) => Err(SysfsError::Read { attribute, source }),
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(nix::libc::ENODEV)
}

/// All disks and all partitions, as links.
const CLASS: &str = "sys/class/block";
/// Device-mapper and MD arrays exist only after somebody activated them on purpose; network disks need a
/// network first.
const NOT_BOOT_DISKS: [&str; 12] =
    ["loop", "ram", "zram", "dm", "md", "sr", "fd", "nbd", "drbd", "bcache", "rbd", "mtdblock"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_virtual_machines_are_looked_at() {
        for name in ["vda", "sda", "sdaa", "xvda", "nvme0n1", "mmcblk0", "pmem0", "dasda"] {
            assert!(can_be_a_boot_disk(name), "{name}");
        }
    }

    #[test]
    fn stacked_removable_and_memory_devices_are_not() {
        for name in ["loop0", "ram15", "zram0", "dm-0", "md127", "md0", "sr0", "fd0", "nbd0", "mtdblock3"] {
            assert!(!can_be_a_boot_disk(name), "{name}");
        }
    }

    fn write(directory: &Path, attribute: &str, content: &str) {
        let path = directory.join(attribute);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn sizes_are_in_units_of_512_bytes_whatever_the_sector_size() {
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("sys/class/block/nvme0n1");
        write(&disk, "size", "2048\n");
        write(&disk, "dev", "259:0\n");
        write(&disk, "ro", "0\n");
        write(&disk, "hidden", "0\n");
        write(&disk, "queue/logical_block_size", "4096\n");
        write(&disk, "nvme0n1p2/partition", "2\n");
        write(&disk, "nvme0n1p2/start", "256\n");
        write(&disk, "nvme0n1p2/size", "1024\n");
        write(&disk, "nvme0n1p2/dev", "259:2\n");
        write(&disk, "nvme0n1p2/ro", "1\n");
        // A path of a multipath NVMe disk has no device node.
        let path = root.path().join("sys/class/block/nvme0c0n1");
        write(&path, "size", "2048\n");
        write(&path, "hidden", "1\n");
        let mut disks = disks(root.path()).unwrap();
        let [disk] = disks.as_mut_slice() else { panic!("{disks:?}") };
        for index in [1, 2] {
            disk.look_up(root.path(), index).unwrap();
        }
        assert_eq!(disk.partitions.len(), 1);
        assert_eq!((disk.size, disk.sector_size, disk.read_only), (1 << 20, 4096, false));
        let partition = &disk.partitions[&2];
        assert_eq!((partition.start, partition.size, partition.read_only), (131_072, 524_288, true));
        assert_eq!(partition.number, DeviceNumber { major: 259, minor: 2 });
    }

    #[test]
    fn an_attribute_that_is_no_number_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("sys/class/block/vda");
        for size in ["", "-1", "0x10", "36893488147419103232", "18446744073709551615"] {
            write(&disk, "size", size);
            assert!(matches!(disks(root.path()), Err(SysfsError::Malformed(_))), "{size}");
        }
    }
}
