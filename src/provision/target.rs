//! The volume to change: a LUKS2 partition or image, or a disk (image) with a LUKS2 root partition.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::base::error::failures;
use crate::base::source::{Source, Window};
use crate::discover::image;
use crate::discover::image::{ImageError, Volume};

/// An opened and locked volume.
pub(super) struct Target {
    file: Flock<File>,
    path: PathBuf,
    volume: Volume,
}

impl Target {
    /// Opens `path` for reading and writing, locks it against udev and other enrolments, and finds the volume
    /// in it. `root` stands for `/`, for sysfs.
    pub(super) fn open(path: &Path, root: &Path) -> Result<Self, TargetError> {
        let opening = |source| TargetError::Open { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(opening)?;
        // udev takes this lock shared while it probes a device (systemd, "Locking Block Device Access").
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_file, errno)| TargetError::Lock { path: path.to_owned(), source: errno.into() })?;
        let (size, sector) = image::measure(&mut file, root).map_err(TargetError::Find)?;
        let volume = image::locate(&*file, size, sector).map_err(TargetError::Find)?;
        Ok(Self { file, path: path.to_owned(), volume })
    }

    /// The volume's bytes, starting at the volume.
    pub(super) fn window(&self) -> Window<'_, File> {
        Window::new(&*self.file, self.volume.offset, self.volume.length)
    }

    /// Bytes of the volume.
    pub(super) fn length(&self) -> u64 {
        self.volume.length
    }

    /// Logical sector size in bytes.
    pub(super) fn sector_size(&self) -> u32 {
        self.volume.sector.bytes()
    }

    /// Reads `length` bytes from the volume's start.
    pub(super) fn read_start(&self, length: usize) -> Result<Vec<u8>, TargetError> {
        let mut bytes = vec![0; length];
        self.window().read_at(&mut bytes, 0).map_err(|source| self.io("Reading", source))?;
        Ok(bytes)
    }

    /// Writes `bytes` at `offset` of the volume.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), TargetError> {
        let absolute = self.volume.offset.saturating_add(offset);
        self.file.write_all_at(bytes, absolute).map_err(|source| self.io("Writing", source))
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> Result<(), TargetError> {
        self.file.sync_data().map_err(|source| self.io("Flushing", source))
    }

    fn io(&self, doing: &'static str, source: io::Error) -> TargetError {
        TargetError::Io { doing, path: self.path.clone(), source }
    }
}

/// Why a volume could not be found or changed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Opening failed.
    #[error("Opening {}", path.display())]
    Open {
        /// Path of the file or device.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Another process is changing or probing it.
    #[error("Locking {}", path.display())]
    Lock {
        /// Path of the file or device.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// It contains no volume.
    #[error("Looking for the volume")]
    Find(#[source] ImageError),
    /// Reading, writing or flushing failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// Which of these.
        doing: &'static str,
        /// Path of the file or device.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

failures! { TargetError:
    Self::Open { .. } => "volume-not-opened", Os, "";
    Self::Lock { .. } => "volume-in-use", Os, "Another program holds a lock on it; try again";
    Self::Find(source) => from source;
    Self::Io { .. } => "volume-io", Os, "";
}
