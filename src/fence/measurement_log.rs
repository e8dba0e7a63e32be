//! Writes systemd's log of userspace measurements, `/run/log/systemd/tpm2-measure.log`, a JSON text sequence
//! (RFC 7464). A verifier replays it against the PCRs; it trusts the PCRs, never the log.
//!
//! The protocol is systemd's (`src/shared/tpm2-util.c`, `tpm2_userspace_log`): the file is locked, and its
//! sticky bit is set before the PCR is extended and cleared after the record is written.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use serde_json::json;
use thiserror::Error;

use crate::base::error::failures;
use crate::base::pcr::{Bank, Pcr};

/// Where the log is, and where to read the facts for its records.
#[derive(Clone, Debug)]
pub struct MeasurementLog {
    root: PathBuf,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The PCR that is extended.
    pub pcr: Pcr,
    /// The digests that extend it, by bank.
    pub digests: &'a [(Bank, Vec<u8>)],
    /// A description of what was measured.
    pub description: &'a str,
    /// systemd's name for the type of event, if it has one.
    pub event: Option<&'a str>,
}

/// The log, locked and marked dirty, waiting for a record.
#[derive(Debug)]
pub struct Pending {
    file: Flock<File>,
    boot_id: String,
    root: PathBuf,
}

impl MeasurementLog {
    /// The log below `root`, which is `/` except in tests and dry runs.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Opens, locks and marks the log. Call it before the PCR is extended.
    ///
    /// # Errors
    /// The operating system's; [`LogError::Dirty`] if an earlier record was never completed.
    pub fn begin(&self) -> Result<Pending, LogError> {
        let boot_id = read_small(&self.root.join(BOOT_ID)).map_err(LogError::BootId)?;
        let boot_id: String = boot_id.chars().filter(char::is_ascii_hexdigit).collect();
        let path = self.root.join(LOG);
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
            made.map_err(LogError::Open)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(CLEAN)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(LogError::Open)?;
        let file =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| LogError::Open(errno.into()))?;
        let facts = file.metadata().map_err(LogError::Open)?;
        if !facts.is_file() {
            return Err(LogError::Open(io::ErrorKind::InvalidInput.into()));
        }
        if facts.permissions().mode() & STICKY != 0 {
            return Err(LogError::Dirty);
        }
        file.set_permissions(Permissions::from_mode(CLEAN | STICKY)).map_err(LogError::Write)?;
        Ok(Pending { file, boot_id, root: self.root.clone() })
    }
}

impl Pending {
    /// Appends `record` and marks the log clean. If this value is dropped instead, the log stays dirty.
    ///
    /// # Errors
    /// The operating system's.
    pub fn append(mut self, record: &Record<'_>) -> Result<(), LogError> {
        let microseconds = uptime(&self.root).map_err(LogError::Uptime)?;
        let digests: Vec<_> = record
            .digests
            .iter()
            .map(|(bank, digest)| json!({ "hashAlg": bank.name(), "digest": hex(digest) }))
            .collect();
        let mut content = json!({
            "string": record.description,
            "bootId": self.boot_id,
            "timestamp": microseconds,
        });
        if let (Some(event), Some(content)) = (record.event, content.as_object_mut()) {
            content.insert("eventType".to_owned(), event.into());
        }
        let text = json!({
            "pcr": record.pcr.number(),
            "digests": digests,
            "content_type": "systemd",
            "content": content,
        });
        // One write: a reader without the lock sees the whole record or nothing.
        let bytes = format!("{RECORD_SEPARATOR}{text}\n");
        self.file.write_all(bytes.as_bytes()).map_err(LogError::Write)?;
        self.file.set_permissions(Permissions::from_mode(CLEAN)).map_err(LogError::Write)
    }
}

/// Microseconds since boot, including time suspended (`CLOCK_BOOTTIME`, to 10 ms).
fn uptime(root: &Path) -> io::Result<u64> {
    let text = read_small(&root.join(UPTIME))?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let (seconds, rest) = text.split_once('.').ok_or_else(invalid)?;
    let hundredths = rest.split(' ').next().ok_or_else(invalid)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| invalid());
    let micros = number(seconds)?.checked_mul(1_000_000).ok_or_else(invalid)?;
    number(hundredths)?.checked_mul(10_000).and_then(|part| micros.checked_add(part)).ok_or_else(invalid)
}

fn read_small(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(SMALL).read_to_string(&mut text)?;
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why the log lacks a record.
#[derive(Debug, Error)]
pub enum LogError {
    /// The boot has no ID.
    #[error("Reading the boot ID")]
    BootId(#[source] io::Error),
    /// The time since boot is unknown.
    #[error("Reading the time since start")]
    Uptime(#[source] io::Error),
    /// The log could not be opened and locked.
    #[error("Opening the measurement log")]
    Open(#[source] io::Error),
    /// The sticky bit was set already.
    #[error("Measurement log lacks an earlier record")]
    Dirty,
    /// The record could not be written.
    #[error("Writing the measurement log")]
    Write(#[source] io::Error),
}

failures! { LogError:
    Self::BootId(_) | Self::Uptime(_) | Self::Open(_) | Self::Write(_) => "measurement-log", Os, "";
    Self::Dirty => "measurement-log-dirty", Data, "";
}

const LOG: &str = "run/log/systemd/tpm2-measure.log";
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
const UPTIME: &str = "proc/uptime";
/// Anybody who can open the file can lock it, so only root may.
const CLEAN: u32 = 0o600;
/// systemd's mark of an incomplete log. It predates user xattrs on tmpfs.
const STICKY: u32 = 0o1000;
const RECORD_SEPARATOR: char = '\x1e';
/// Bytes; both files in `/proc` have less than 40.
const SMALL: u64 = 256;

#[cfg(test)]
mod tests;
