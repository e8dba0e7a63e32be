//! systemd's log of what userspace measured, `/run/log/systemd/tpm2-measure.log`. Records come in, a JSON text sequence
//! (RFC 7464) on the tmpfs grows. A verifier replays it against the PCRs; it trusts the PCRs, never the log.
//!
//! The protocol is systemd's (`src/shared/tpm2-util.c`, `tpm2_userspace_log`): the file is locked, its sticky bit is
//! set before the PCR is extended and cleared after the record is written.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use serde_json::json;
use thiserror::Error;

use crate::error::{Class, Failure};
use crate::pcr::{Bank, Pcr};

/// Where the log is, and where the facts of its records come from.
#[derive(Clone, Debug)]
pub struct MeasurementLog {
    root: PathBuf,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The PCR that is extended.
    pub pcr: Pcr,
    /// What it is extended with, by bank.
    pub digests: &'a [(Bank, Vec<u8>)],
    /// What was measured, in words.
    pub description: &'a str,
    /// systemd's name for the kind of event, if it has one.
    pub event: Option<&'a str>,
}

/// The log, locked and marked dirty: a record has to follow.
#[derive(Debug)]
pub struct Pending {
    file: Flock<File>,
    boot_id: String,
    root: PathBuf,
}

impl MeasurementLog {
    /// The log below `root`, `/` but for tests and dry runs.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Opens, locks and marks the log; to be called before the PCR is extended.
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
    /// Appends `record` and marks the log clean; dropped instead, the log stays dirty.
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
        // One write: whoever reads without the lock sees all of it or nothing.
        let bytes = format!("{RECORD_SEPARATOR}{text}\n");
        self.file.write_all(bytes.as_bytes()).map_err(LogError::Write)?;
        self.file.set_permissions(Permissions::from_mode(CLEAN)).map_err(LogError::Write)
    }
}

/// Microseconds since the machine was started, suspended time included (`CLOCK_BOOTTIME`, to 10 ms).
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
    /// The time since start is unknown.
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

impl Failure for LogError {
    fn slug(&self) -> &'static str {
        match self {
            Self::Dirty => "measurement-log-dirty",
            _ => "measurement-log",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Dirty => Class::Data,
            _ => Class::Os,
        }
    }
}

const LOG: &str = "run/log/systemd/tpm2-measure.log";
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
const UPTIME: &str = "proc/uptime";
/// Whoever can open the file can lock it: only root.
const CLEAN: u32 = 0o600;
/// systemd's mark of an incomplete log: tmpfs had no user xattrs when it was designed.
const STICKY: u32 = 0o1000;
const RECORD_SEPARATOR: char = '\x1e';
/// Bytes; both files of `/proc` have less than 40.
const SMALL: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, MeasurementLog) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel/random")).unwrap();
        fs::write(root.path().join(BOOT_ID), "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\n").unwrap();
        fs::write(root.path().join(UPTIME), "12.34 20.00\n").unwrap();
        let log = MeasurementLog::new(root.path());
        (root, log)
    }

    fn record(digests: &[(Bank, Vec<u8>)]) -> Record<'_> {
        Record { pcr: Pcr::FENCE, digests, description: "cryptsetup:root:x", event: Some("volume-key") }
    }

    #[test]
    fn a_record_has_systemds_members() {
        let (root, log) = host();
        let digests = [(Bank::Sha1, vec![0xaa; 20]), (Bank::Sha256, vec![0xbb; 32])];
        for _ in 0..2 {
            log.begin().unwrap().append(&record(&digests)).unwrap();
        }
        let text = fs::read_to_string(root.path().join(LOG)).unwrap();
        let records: Vec<&str> = text.split('\x1e').collect();
        assert_eq!((records.len(), records[0]), (3, ""));
        for record in &records[1..] {
            assert!(record.ends_with('\n'));
            let value: serde_json::Value = serde_json::from_str(record).unwrap();
            let expected = json!({
                "pcr": 15,
                "digests": [
                    { "hashAlg": "sha1", "digest": "aa".repeat(20) },
                    { "hashAlg": "sha256", "digest": "bb".repeat(32) },
                ],
                "content_type": "systemd",
                "content": {
                    "string": "cryptsetup:root:x",
                    "bootId": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
                    "timestamp": 12_340_000,
                    "eventType": "volume-key",
                },
            });
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn our_records_have_the_members_of_a_real_one() {
        let (root, log) = host();
        log.begin().unwrap().append(&record(&[(Bank::Sha256, vec![0; 32])])).unwrap();
        let text = fs::read_to_string(root.path().join(LOG)).unwrap();
        let ours: serde_json::Value = serde_json::from_str(text.trim_start_matches('\x1e')).unwrap();
        let real: serde_json::Value = serde_json::from_str(REAL).unwrap();
        let members = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(members(&ours), members(&real));
        assert_eq!(members(&ours["content"]), members(&real["content"]));
        assert_eq!(members(&ours["digests"][0]), members(&real["digests"][0]));
        assert_eq!(ours["content"]["eventType"], real["content"]["eventType"]);
    }

    #[test]
    fn only_root_reads_a_clean_log() {
        let (root, log) = host();
        let mode = || fs::metadata(root.path().join(LOG)).unwrap().permissions().mode() & 0o7777;
        let pending = log.begin().unwrap();
        assert_eq!(mode(), 0o1600);
        pending.append(&record(&[])).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_log_that_lacks_a_record_is_not_continued() {
        let (_root, log) = host();
        drop(log.begin().unwrap());
        assert_eq!(log.begin().unwrap_err().slug(), "measurement-log-dirty");
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let (root, log) = host();
        fs::create_dir_all(root.path().join("run/log/systemd")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.path().join(LOG)).unwrap();
        assert_eq!(log.begin().unwrap_err().slug(), "measurement-log");
    }

    // The second record of /run/log/systemd/tpm2-measure.log after a boot of Debian trixie (systemd 257.9).
    const REAL: &str = r#"{"pcr":15,"digests":[{"hashAlg":"sha256","digest":"8ae0fc54da5ced4fa654de040fc186f5158a4ac122e902503ee2e25781ebddbc"}],"content_type":"systemd","content":{"string":"cryptsetup:root:d181307a-f778-4551-8cee-347ba41ea803","bootId":"8f97208f7396470fa02811c803780d51","timestamp":42190574,"eventType":"volume-key"}}"#;
}
