//! Finds and opens candidates for our root, from sysfs, partition tables and an EFI variable.
//!
//! The host controls all of these, so discovery only proposes; cryptography decides. A disk with a broken
//! table is noted for the report and does not stop another disk.

pub mod device;
mod error;
pub mod image;
pub mod loader;
pub mod select;
pub mod sysfs;
pub mod systemd_variables;
pub mod uevent;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

pub use error::{DiscoverError, Seen};

use crate::format::efi::guid::Guid;
use crate::format::gpt::Table;
use crate::format::gpt::sector::SectorSize;
use loader::LoaderPartition;
use select::CANDIDATES_LIMIT;
use select::{Decision, DiskFacts, Note, Proposal, Selection, TableError};
pub use sysfs::Instance;
use sysfs::{DeviceNumber, Disk, SysfsError};
use uevent::Wait;

/// Discovery below a root directory: `/`, or a fake one in tests.
#[derive(Debug)]
pub struct Discovery<W> {
    root: PathBuf,
    wait: W,
}

/// Candidates for our root, all of them open.
#[derive(Debug)]
pub struct Candidates {
    /// At least one, in the order of disk names and partition numbers.
    pub candidates: Vec<Candidate>,
    /// Facts for the report.
    pub notes: Vec<Note>,
    /// What the loader's variable says.
    pub loader: LoaderPartition,
}

/// A candidate for our root.
#[derive(Debug)]
pub struct Candidate {
    /// The partition, opened read-only. Do not open the path again.
    pub file: File,
    /// Path of the device, below the root directory: `/dev/vda2`.
    pub path: PathBuf,
    /// Name of the whole disk: `vda`.
    pub disk: String,
    /// Number of the partition, from 1.
    pub partition: u32,
    /// Device number of the partition.
    pub device: DeviceNumber,
    /// Which device it is, should its number be used again.
    pub instance: Instance,
    /// Bytes from the start of the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Logical sector size.
    pub sector: SectorSize,
    /// Unique GUID of the partition.
    pub part_uuid: Guid,
    /// Whether the table or the kernel demands read-only use.
    pub read_only: bool,
    /// Whether the table asks for the file system to be grown.
    pub growfs: bool,
}

impl Candidates {
    /// Whether the loader named their disk, and these are all root partitions on it.
    #[must_use]
    pub fn are_the_loaders(&self) -> bool {
        matches!(self.loader, LoaderPartition::Known(_))
            && !self.notes.iter().any(|note| matches!(note, Note::NotYetThere(..) | Note::DeviceRefused(..)))
    }
}

impl<W: Wait> Discovery<W> {
    /// `wait` must already be listening, so that no device appears unnoticed between a look and a wait.
    #[must_use]
    pub const fn open(root: PathBuf, wait: W) -> Self {
        Self { root, wait }
    }

    /// The candidates, as soon as there is one. `deadline` counts from now.
    ///
    /// # Errors
    /// See [`DiscoverError`].
    pub fn find(&self, deadline: Duration) -> Result<Candidates, DiscoverError> {
        self.find_beyond(&BTreeSet::new(), deadline)
    }

    /// As [`Discovery::find`], but waits for candidates that are not in `tried`: the first disk to appear may
    /// not be ours. [`CANDIDATES_LIMIT`] includes those tried.
    ///
    /// # Errors
    /// See [`DiscoverError`].
    pub fn find_beyond(
        &self,
        tried: &BTreeSet<Instance>,
        deadline: Duration,
    ) -> Result<Candidates, DiscoverError> {
        let mut last = None;
        let found = uevent::wait_until(&self.wait, deadline, || {
            let (found, seen) = self.look(tried)?;
            if !found.candidates.is_empty() {
                return Ok(Some(found));
            }
            if tried.len() >= CANDIDATES_LIMIT {
                return Err(DiscoverError::TooMany { seen });
            }
            last = Some((found.notes, seen));
            Ok(None)
        })?;
        found.ok_or_else(|| {
            let (notes, seen) =
                last.unwrap_or_else(|| (Vec::new(), Seen::new(&[], LoaderPartition::Unknown)));
            DiscoverError::after(deadline, &notes, seen)
        })
    }

    /// Looks at everything once. Opens no candidate that was tried, or that is beyond the limit.
    fn look(&self, tried: &BTreeSet<Instance>) -> Result<(Candidates, Seen), DiscoverError> {
        let loader = LoaderPartition::read(&self.root)?;
        let disks: Vec<DiskFacts> =
            sysfs::disks(&self.root)?.into_iter().map(|disk| self.observe(disk)).collect::<Result<_, _>>()?;
        let Decision { selection, mut notes } = select::select(&disks, loader, Guid::NATIVE_ROOT);
        let mut proposals = match selection {
            Selection::Wait => Vec::new(),
            Selection::Candidates(proposals) => proposals,
        };
        proposals.retain(|proposal| !tried.contains(&proposal.instance));
        // Candidates that cannot be opened now count all the same: they may be ready at the next look.
        let left = CANDIDATES_LIMIT.saturating_sub(tried.len());
        if let Some(more @ 1..) = proposals.len().checked_sub(left) {
            proposals.truncate(left);
            notes.push(Note::TooManyCandidates(more));
        }
        let mut candidates = Vec::new();
        for proposal in proposals {
            let name = proposal.kernel.name.clone();
            match self.accept(proposal) {
                Ok(candidate) => candidates.push(candidate),
                Err(error) => notes.push(Note::DeviceRefused(name, crate::base::error::chain(&error))),
            }
        }
        let seen = Seen::new(&disks, loader).after_trying(tried.len());
        Ok((Candidates { candidates, notes, loader }, seen))
    }

    fn observe(&self, mut disk: Disk) -> Result<DiskFacts, SysfsError> {
        let read = || {
            let sector =
                SectorSize::from_bytes(disk.sector_size).ok_or(TableError::SectorSize(disk.sector_size))?;
            let (_, file) = device::open(&self.root, &disk.name, disk.number).map_err(TableError::Open)?;
            Ok((sector, Table::read(&file, disk.size, sector)?))
        };
        let table = read();
        let partitions = table.iter().flat_map(|(_, table)| &table.partitions);
        for partition in partitions.filter(|partition| select::is_root(partition, Guid::NATIVE_ROOT)) {
            disk.look_up(&self.root, partition.number)?;
        }
        Ok(DiskFacts { disk, table })
    }

    fn accept(&self, proposal: Proposal) -> Result<Candidate, device::DeviceError> {
        let Proposal { disk, sector, partition, kernel, instance, read_only, growfs } = proposal;
        let (path, file) = device::open(&self.root, &kernel.name, kernel.number)?;
        Ok(Candidate {
            file,
            path,
            disk,
            partition: partition.number,
            device: kernel.number,
            instance,
            start: kernel.start,
            size: kernel.size,
            sector,
            part_uuid: partition.uuid,
            read_only,
            growfs,
        })
    }
}
