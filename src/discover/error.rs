//! Why discovery failed, with what was seen instead.

use std::fmt;
use std::time::Duration;

use super::loader::{EfivarError, LoaderPartition};
use super::select::{CANDIDATES_LIMIT, DiskFacts, Note, TableError};
use super::sysfs::SysfsError;
use super::uevent::WaitError;
use crate::base::error::failures;
use crate::format::efi::guid::Guid;
use crate::format::gpt::{GptError, Table};

/// Discovery failed.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// sysfs could not be read.
    #[error("Looking for disks")]
    Sysfs(#[from] SysfsError),
    /// The loader's variable could not be read.
    #[error("Looking for the boot disk")]
    Loader(#[from] EfivarError),
    /// Waiting for the kernel's events failed.
    #[error("Looking for disks")]
    Wait(#[from] WaitError),
    /// No root partition appeared before the deadline.
    #[error("No root partition within {} s: {seen}", deadline.as_secs())]
    NotFound {
        /// How long we waited.
        deadline: Duration,
        /// What was there instead.
        seen: Seen,
    },
    /// The deadline passed, and a partition table is damaged or forged.
    #[error("No root partition within {} s, but a partition table that is refused: {seen}", deadline.as_secs())]
    TableInvalid {
        /// How long we waited.
        deadline: Duration,
        /// What was there instead.
        seen: Seen,
    },
    /// A boot's limit of root partitions was tried, and none was ours.
    #[error("{CANDIDATES_LIMIT} root partitions were tried, a boot tries no more: {seen}")]
    TooMany {
        /// What was there.
        seen: Seen,
    },
    /// The deadline passed, and the kernel's view contradicts the table.
    #[error("The kernel's partition {partition} is not where the partition table says: {seen}")]
    KernelMismatch {
        /// Name of the partition.
        partition: String,
        /// What was there.
        seen: Seen,
    },
    /// The deadline passed, and the root partition's device is not usable.
    #[error("The root partition {partition} cannot be used: {reason}")]
    DeviceRefused {
        /// Name of the partition.
        partition: String,
        /// Why not.
        reason: String,
    },
}

impl DiscoverError {
    /// The error at the deadline: the most telling of all reasons.
    pub(super) fn after(deadline: Duration, notes: &[Note], seen: Seen) -> Self {
        for note in notes {
            match note {
                Note::KernelMismatch(partition) => {
                    return Self::KernelMismatch { partition: partition.clone(), seen };
                }
                Note::DeviceRefused(partition, reason) => {
                    return Self::DeviceRefused { partition: partition.clone(), reason: reason.clone() };
                }
                _ => {}
            }
        }
        if seen.invalid_table {
            Self::TableInvalid { deadline, seen }
        } else {
            Self::NotFound { deadline, seen }
        }
    }
}

failures! { DiscoverError:
    Self::Sysfs(_) => "sysfs-unreadable", Os, "";
    Self::Loader(EfivarError::Read(_)) => "loader-variable-unreadable", Os, "";
    Self::Loader(EfivarError::Malformed) => "loader-variable-malformed", Data, "";
    Self::Wait(_) => "uevents-unavailable", Os, "";
    Self::NotFound { .. } => "root-not-found", Unavailable,
        "Is the disk attached, is its driver in the initramfs, and has the root partition the type GUID of this \
         architecture?";
    Self::TableInvalid { .. } => "gpt-invalid", Data,
        "Check the disk with `sgdisk --verify` on a machine that is not to boot from it.";
    Self::TooMany { .. } => "root-too-many", Data, "Detach the disks that are not this machine's.";
    Self::KernelMismatch { .. } => "partition-kernel-mismatch", Data,
        "Was the disk partitioned anew while it was in use?";
    Self::DeviceRefused { .. } => "device-refused", Os, "";
}

/// A summary of all disks, for people.
#[derive(Clone, Debug)]
pub struct Seen {
    loader: LoaderPartition,
    disks: Vec<String>,
    invalid_table: bool,
    /// Root partitions tried before, which did not prove that they are ours.
    tried: usize,
}

impl Seen {
    pub(super) fn new(disks: &[DiskFacts], loader: LoaderPartition) -> Self {
        let invalid =
            |facts: &DiskFacts| matches!(facts.table, Err(TableError::Gpt(GptError::Invalid { .. })));
        let invalid_table = disks.iter().any(invalid);
        Self { loader, disks: disks.iter().map(describe).collect(), invalid_table, tried: 0 }
    }

    /// The same, for a search that only counts candidates beyond those tried before.
    pub(super) const fn after_trying(mut self, tried: usize) -> Self {
        self.tried = tried;
        self
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.disks.len() {
            0 => f.write_str("no disk at all")?,
            1 => write!(f, "1 disk, {}", self.disks.concat())?,
            many => write!(f, "{many} disks, {}", super::select::shown(&self.disks, "; "))?,
        }
        match self.loader {
            LoaderPartition::Known(uuid) => write!(f, "; the loader was started from partition {uuid}")?,
            LoaderPartition::Unknown => f.write_str("; the loader's partition is not known")?,
        }
        match self.tried {
            0 => Ok(()),
            tried => write!(f, "; {tried} tried before"),
        }
    }
}

fn describe(facts: &DiskFacts) -> String {
    let name = &facts.disk.name;
    match &facts.table {
        Ok((_, table)) => format!("{name} with {}", partitions(table)),
        Err(error) => format!("{name} ({})", crate::base::error::chain(error)),
    }
}

fn partitions(table: &Table) -> String {
    let shown: Vec<String> = table
        .partitions
        .iter()
        .take(SHOWN)
        .map(|partition| match partition.kind {
            Guid::ESP => format!("{} ESP", partition.number),
            Guid::XBOOTLDR => format!("{} XBOOTLDR", partition.number),
            Guid::NATIVE_ROOT => format!("{} root", partition.number),
            other => format!("{} of type {other}", partition.number),
        })
        .collect();
    match table.partitions.len().checked_sub(SHOWN) {
        _ if shown.is_empty() => "no partition".to_owned(),
        None | Some(0) => format!("partitions {}", shown.join(", ")),
        Some(more) => format!("partitions {} and {more} more", shown.join(", ")),
    }
}

/// How many partitions of a disk are listed: the message goes to the console.
const SHOWN: usize = 8;
