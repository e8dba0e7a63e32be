//! Selects the partitions that may be our root, from facts about all disks. Pure.
//!
//! All these facts are untrusted and prove nothing: two disks that look the same are two candidates, and a
//! label never decides. Cryptography decides later.

use std::fmt;

use super::loader::LoaderPartition;
use super::sysfs::{Disk, Instance, KernelPartition};
use crate::format::efi::guid::Guid;
use crate::format::gpt::sector::SectorSize;
use crate::format::gpt::{Copy, GptError, Partition, Table};

/// The facts about one disk.
#[derive(Debug)]
pub struct DiskFacts {
    /// The kernel's view.
    pub disk: Disk,
    /// Its partition table.
    pub table: Result<(SectorSize, Table), TableError>,
}

/// A disk whose partition table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The operating system's error; the device node may not exist yet.
    #[error("Opening the disk")]
    Open(#[source] super::device::DeviceError),
    /// Neither 512 nor 4096 bytes.
    #[error("Logical sectors of {0} bytes")]
    SectorSize(u64),
    /// Missing, damaged or forged.
    #[error(transparent)]
    Gpt(#[from] GptError),
}

/// The decision.
#[derive(Debug)]
pub struct Decision {
    /// What to do.
    pub selection: Selection,
    /// Facts for the report.
    pub notes: Vec<Note>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// There is no candidate yet; a disk or a partition may still appear.
    Wait,
    /// These may be our root, in the order of their names. At least one.
    Candidates(Vec<Proposal>),
}

/// A partition that may be our root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Name of the disk.
    pub disk: String,
    /// Logical sector size of the disk.
    pub sector: SectorSize,
    /// The partition in the table.
    pub partition: Partition,
    /// The kernel's partition, with the same start and size.
    pub kernel: KernelPartition,
    /// Which device it is, should its number be used again.
    pub instance: Instance,
    /// Whether the table or the kernel demands read-only use.
    pub read_only: bool,
    /// Whether the table asks for the file system to be grown.
    pub growfs: bool,
}

/// A fact for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// More than one disk has the loader's partition: a clone is attached.
    LoaderPartitionTwice(Vec<String>),
    /// There are several root partitions.
    SeveralCandidates(Vec<String>),
    /// This many root partitions exceed a boot's limit and are ignored.
    TooManyCandidates(usize),
    /// The backup table is in use.
    BackupTable(String),
    /// A disk was skipped: name and reason.
    DiskRefused(String, String),
    /// A root partition was skipped: the kernel's partition starts or ends elsewhere.
    KernelMismatch(String),
    /// The kernel has not created the device of this root partition yet: disk and number.
    NotYetThere(String, u32),
    /// The device of a candidate could not be opened: name and reason.
    DeviceRefused(String, String),
}

impl Note {
    /// Stable, kebab-case name of the fact.
    #[must_use]
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::LoaderPartitionTwice(_) => "loader-partition-duplicate",
            Self::SeveralCandidates(_) => "root-several",
            Self::TooManyCandidates(_) => "root-too-many",
            Self::BackupTable(_) => "gpt-backup-used",
            Self::DiskRefused(..) => "disk-refused",
            Self::KernelMismatch(_) => "partition-kernel-mismatch",
            Self::NotYetThere(..) => "partition-not-there",
            Self::DeviceRefused(..) => "device-refused",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoaderPartitionTwice(disks) => {
                write!(
                    f,
                    "The partition that the loader was started from is on several disks: {}",
                    shown(disks, ", ")
                )
            }
            Self::SeveralCandidates(names) => {
                write!(f, "There are several root partitions: {}", shown(names, ", "))
            }
            Self::TooManyCandidates(more) => {
                write!(
                    f,
                    "A boot tries {CANDIDATES_LIMIT} root partitions at most, {more} more are not looked at"
                )
            }
            Self::BackupTable(disk) => write!(f, "The primary GPT of {disk} is damaged, its backup is used"),
            Self::DiskRefused(disk, reason) => write!(f, "Passed over {disk}: {reason}"),
            Self::KernelMismatch(name) => {
                write!(f, "The kernel's {name} is not where the partition table says")
            }
            Self::NotYetThere(disk, number) => write!(f, "The kernel has no partition {number} of {disk}"),
            Self::DeviceRefused(name, reason) => write!(f, "Passed over {name}: {reason}"),
        }
    }
}

/// Selects among all disks, or only those with the loader's partition if it is known. `root_type` is the type
/// GUID of a root partition.
#[must_use]
pub fn select(disks: &[DiskFacts], loader: LoaderPartition, root_type: Guid) -> Decision {
    let mut notes = Vec::new();
    let mut proposals = Vec::new();
    let mut boot_disks = Vec::new();
    for DiskFacts { disk, table } in disks {
        let (sector, table) = match table {
            Ok((sector, table)) => (*sector, table),
            Err(TableError::Gpt(GptError::Missing)) => continue,
            Err(error) => {
                notes.push(Note::DiskRefused(disk.name.clone(), crate::base::error::chain(error)));
                continue;
            }
        };
        if !started_from(table, loader) {
            continue;
        }
        boot_disks.push(disk.name.clone());
        if table.copy == Copy::Backup {
            notes.push(Note::BackupTable(disk.name.clone()));
        }
        for partition in table.partitions.iter().filter(|partition| is_root(partition, root_type)) {
            match propose(disk, sector, partition) {
                Ok(proposal) => proposals.push(proposal),
                Err(note) => notes.push(note),
            }
        }
    }
    // Partitions that may still appear decide whether to wait, so they must not be cut off.
    notes.sort_by_key(|note| !matches!(note, Note::NotYetThere(..)));
    notes.truncate(NOTES_LIMIT);
    if loader != LoaderPartition::Unknown && boot_disks.len() > 1 {
        notes.push(Note::LoaderPartitionTwice(boot_disks));
    }
    if proposals.len() > 1 {
        notes.push(Note::SeveralCandidates(proposals.iter().map(|p| p.kernel.name.clone()).collect()));
    }
    let selection = if proposals.is_empty() { Selection::Wait } else { Selection::Candidates(proposals) };
    Decision { selection, notes }
}

/// Whether [`select`] considers the partition: it has the root's type, may be discovered, and is no free
/// slot.
#[must_use]
pub fn is_root(partition: &Partition, root_type: Guid) -> bool {
    partition.kind == root_type && !partition.attributes.no_auto() && !partition.label.is_empty_slot()
}

fn started_from(table: &Table, loader: LoaderPartition) -> bool {
    match loader {
        LoaderPartition::Unknown => true,
        LoaderPartition::Known(uuid) => table
            .partitions
            .iter()
            .any(|partition| partition.uuid == uuid && [Guid::ESP, Guid::XBOOTLDR].contains(&partition.kind)),
    }
}

fn propose(disk: &Disk, sector: SectorSize, partition: &Partition) -> Result<Proposal, Note> {
    let kernel = disk
        .partitions
        .get(&partition.number)
        .ok_or_else(|| Note::NotYetThere(disk.name.clone(), partition.number))?;
    if (kernel.start, kernel.size) != (partition.start, partition.size) {
        return Err(Note::KernelMismatch(kernel.name.clone()));
    }
    let read_only = partition.attributes.read_only() || kernel.read_only || disk.read_only;
    Ok(Proposal {
        disk: disk.name.clone(),
        sector,
        partition: partition.clone(),
        kernel: kernel.clone(),
        instance: Instance { number: kernel.number, diskseq: disk.diskseq },
        read_only,
        growfs: partition.attributes.growfs() && !read_only,
    })
}

/// The first names, and how many more there are. The text goes to the console, and its length is untrusted.
pub(super) fn shown(names: &[String], separator: &str) -> String {
    let (first, rest) = names.split_at_checked(SHOWN).unwrap_or((names, &[]));
    let first = first.join(separator);
    if rest.is_empty() { first } else { format!("{first} and {} more", rest.len()) }
}

/// Root partitions that one boot tries, over all disks and however often they are replugged. Our own limit:
/// A/B schemes have two, and a rescue disk and a data disk of another machine add a few.
pub const CANDIDATES_LIMIT: usize = 16;
/// Facts about single disks and partitions in the report. An untrusted table may have 1024 of them.
const NOTES_LIMIT: usize = 32;
/// How many names are listed.
const SHOWN: usize = 8;

#[cfg(test)]
mod tests;
