//! A fake root directory with `sys/class/block` and `dev`, as the kernel would present disks with these
//! tables.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::gpt_disk::{self, Part};

/// The tree; its disks are plain files.
pub struct Tree(TempDir);

impl Tree {
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("sys/class/block")).unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        Self(root)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A disk of 512 sectors with these partitions, major number 254.
    pub fn add_disk(&self, name: &str, minor: u64, sector: u32, parts: &[Part]) {
        let bytes = gpt_disk::write(sector, 512, parts);
        self.add_blank_disk(name, minor, sector, &bytes);
        for (number, part) in (1_u64..).zip(parts) {
            self.add_partition(name, minor, number, sector, part);
        }
    }

    /// A disk without partitions in the kernel's view.
    pub fn add_blank_disk(&self, name: &str, minor: u64, sector: u32, bytes: &[u8]) {
        fs::write(self.path().join("dev").join(name), bytes).unwrap();
        let disk = format!("sys/class/block/{name}");
        self.write(&format!("{disk}/size"), bytes.len() / 512);
        self.write(&format!("{disk}/dev"), format!("254:{minor}"));
        self.write(&format!("{disk}/ro"), 0);
        self.write(&format!("{disk}/hidden"), 0);
        self.write(&format!("{disk}/queue/logical_block_size"), sector);
    }

    /// Takes over all disks of another tree at once, the nodes first, as the kernel does.
    pub fn take_disks(&self, other: &Self) {
        for directory in ["dev", "sys/class/block"] {
            for entry in fs::read_dir(other.path().join(directory)).unwrap() {
                let entry = entry.unwrap();
                fs::rename(entry.path(), self.path().join(directory).join(entry.file_name())).unwrap();
            }
        }
    }

    /// The kernel's partition of a disk, and a node with the disk's bytes at that place.
    pub fn add_partition(&self, disk: &str, minor: u64, number: u64, sector: u32, part: &Part) {
        let name = partition_name(disk, number);
        let (start, end) = (part.first_lba * u64::from(sector), (part.last_lba + 1) * u64::from(sector));
        let bytes = fs::read(self.path().join("dev").join(disk)).unwrap();
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        fs::write(self.path().join("dev").join(&name), &bytes[range]).unwrap();
        // The kernel shows a partition twice: below its disk, and in the class.
        for directory in [format!("sys/class/block/{disk}/{name}"), format!("sys/class/block/{name}")] {
            self.write(&format!("{directory}/partition"), number);
            self.write(&format!("{directory}/start"), start / 512);
            self.write(&format!("{directory}/size"), (end - start) / 512);
            self.write(&format!("{directory}/dev"), format!("254:{}", minor + number));
            self.write(&format!("{directory}/ro"), 0);
        }
    }

    /// `LoaderDevicePartUUID`, as systemd's boot stub writes it.
    pub fn set_loader_partition(&self, uuid: &str) {
        let text = format!("{}\0", uuid.to_uppercase());
        let bytes: Vec<u8> =
            [6, 0, 0, 0].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let path = self
            .path()
            .join("sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// An attribute, with the final newline that the kernel writes.
    pub fn write(&self, path: &str, value: impl Display) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }
}

/// `vda2`, but `nvme0n1p2`.
fn partition_name(disk: &str, number: u64) -> String {
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{separator}{number}")
}
