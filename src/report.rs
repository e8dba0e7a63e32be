//! What this boot's unlock came to, as a value: `/run/cvm-unlock/report.json`, a line in the journal, an exit code.
//!
//! Facts of all stages come in; nothing secret is among them, and the file is world-readable.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Class, Error, Failure};
use crate::hex;
use crate::pcr::{Bank, Pcr, PcrValues};
use crate::tpm::readings::Readings;

/// The report of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of this format. Members may be added within a version; they are never renamed or removed.
    pub version: u32,
    /// How the run ended.
    pub outcome: Outcome,
    /// The failure, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// The volume that was opened or, on a failure, last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeReport>,
    /// Each token that was considered and did not open the volume, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_tokens: Vec<TokenReport>,
    /// PCR values as they were found at entry: those that the volume's tokens are about, by bank and PCR, in hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pcrs: BTreeMap<String, BTreeMap<u8, String>>,
    /// What was extended into PCR 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceReport>,
    /// What an operator should know although the volume opened; slugs are stable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// How long each stage took, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageReport>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The root volume is mapped.
    Unlocked,
    /// A dry run came as far as an unlock would have to.
    WouldUnlock,
    /// A dry run in a fenced boot: a token's policy holds for the PCR values that this boot's unlock found. More cannot be
    /// tried before the next boot.
    PolicyHolds,
    /// It was refused, or something failed.
    Failed,
}

/// A failure, in the words that `cvm-unlock` itself used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureReport {
    /// Stable name.
    pub slug: String,
    /// One line, outermost cause first.
    pub message: String,
    /// What can be done; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The process's exit code.
    pub exit_code: u8,
}

/// Which volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Device, or image file.
    pub device: String,
    /// UUID in the LUKS2 header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub luks_uuid: Option<String>,
    /// UUID of the GPT partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_uuid: Option<String>,
    /// Token that opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u32>,
    /// Keyslot that opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyslot: Option<u32>,
    /// Name of the mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
}

/// Why a token did not open the volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenReport {
    /// Number in the LUKS2 header.
    pub token: u32,
    /// Stable name of the reason.
    pub slug: String,
    /// One line.
    pub message: String,
    /// PCRs that have other values than those enrolled, where the token says which those were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcrs: Vec<PcrReport>,
}

/// A PCR that keeps a token from opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcrReport {
    /// Number.
    pub pcr: u8,
    /// Value at enrolment, in hexadecimal.
    pub enrolled: String,
    /// Value that was found, in hexadecimal.
    pub now: String,
}

impl TokenReport {
    /// Why token `token` did not open the volume.
    #[must_use]
    pub fn new(token: u32, slug: &str, message: String) -> Self {
        Self { token, slug: slug.to_owned(), message, pcrs: Vec::new() }
    }
}

/// The fence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FenceReport {
    /// Always 15.
    pub pcr: u8,
    /// The banks that were extended.
    pub banks: Vec<String>,
    /// What was measured: the volume key, or the failure.
    pub measured: String,
}

/// Something an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Stable name.
    pub slug: String,
    /// One line.
    pub message: String,
}

impl Warning {
    /// A warning under a stable name.
    #[must_use]
    pub fn new(slug: &str, message: impl Into<String>) -> Self {
        Self { slug: slug.to_owned(), message: message.into() }
    }
}

/// The time that a stage took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageReport {
    /// Stage, as the pipeline names it.
    pub stage: String,
    /// Microseconds.
    pub microseconds: u64,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            version: VERSION,
            outcome: Outcome::Failed,
            failure: None,
            volume: None,
            refused_tokens: Vec::new(),
            pcrs: BTreeMap::new(),
            fence: None,
            warnings: Vec::new(),
            stages: Vec::new(),
        }
    }
}

impl Report {
    /// Runs a stage and notes its time.
    pub fn stage<T>(&mut self, name: &str, run: impl FnOnce(&mut Self) -> T) -> T {
        let start = Instant::now();
        let outcome = run(self);
        let microseconds = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stages.push(StageReport { stage: name.to_owned(), microseconds });
        outcome
    }

    /// Notes a warning and logs it.
    pub fn warn(&mut self, warning: Warning) {
        log::warn!("{} [{}]", warning.message, warning.slug);
        self.warnings.push(warning);
    }

    /// Notes PCR values.
    pub fn record(&mut self, readings: &Readings) {
        for values in readings.iter() {
            let bank = self.pcrs.entry(values.bank().to_string()).or_default();
            bank.extend(values.iter().map(|(pcr, value)| (pcr.number(), hex::encode(value))));
        }
    }

    /// The PCR values noted; `None` if there are none, or something else stands there.
    #[must_use]
    pub fn readings(&self) -> Option<Readings> {
        let mut readings = Readings::default();
        for (bank, pcrs) in &self.pcrs {
            let mut values = PcrValues::new(Bank::from_name(bank)?);
            for (pcr, value) in pcrs {
                values.insert(Pcr::new(*pcr)?, hex::decode_vec(value)?)?;
            }
            readings.insert(&values);
        }
        (!self.pcrs.is_empty()).then_some(readings)
    }

    /// Turns the report into that of a failure.
    pub fn fail(&mut self, error: &Error) {
        self.outcome = Outcome::Failed;
        self.failure = Some(FailureReport {
            slug: error.slug().to_owned(),
            message: error.chain(),
            hint: error.hint().to_owned(),
            exit_code: error.exit_code(),
        });
    }

    /// Writes the report below `root`, atomically and readable by all.
    ///
    /// # Errors
    /// `report-not-written`.
    pub fn write(&self, root: &Path) -> Result<(), ReportError> {
        let path = root.join(PATH);
        self.write_to(&path).map_err(|source| ReportError::Write { path, source })
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let temporary = folder.join(".report.json.new");
        let mut file = fs::File::create(&temporary)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        fs::rename(&temporary, path)
    }

    /// Reads the report of this boot.
    ///
    /// # Errors
    /// `no-report`, or `report-unreadable` where the file is not one of ours.
    pub fn read(root: &Path) -> Result<Self, ReportError> {
        let path = root.join(PATH);
        let text = fs::read(&path).map_err(|source| ReportError::Read { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|source| ReportError::Parse { path, source })
    }
}

/// Why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Writing it.
    #[error("Writing the report {}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading it.
    #[error("Reading the report {}", path.display())]
    Read {
        /// Where from.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Understanding it.
    #[error("Parsing the report {}", path.display())]
    Parse {
        /// Where from.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Failure for ReportError {
    fn slug(&self) -> &'static str {
        match self {
            Self::Write { .. } => "report-not-written",
            Self::Read { .. } => "no-report",
            Self::Parse { .. } => "report-unreadable",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Write { .. } => Class::Os,
            Self::Read { .. } => Class::Unavailable,
            Self::Parse { .. } => Class::Data,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Was this boot's root volume unlocked by cvm-unlock?",
            _ => "",
        }
    }
}

/// Where the report lies; `/run` is handed on to the booted system.
pub const PATH: &str = "run/cvm-unlock/report.json";
/// Version of the format.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        let mut report = Report { outcome: Outcome::Unlocked, ..Report::default() };
        report.warn(Warning::new("volume-unauthenticated", "no proof"));
        let mut values = PcrValues::new(Bank::Sha256);
        values.insert(Pcr::FENCE, vec![0x5a; 32]).unwrap();
        let readings = Readings::from_iter([values]);
        report.record(&readings);
        report.write(root.path()).unwrap();
        let read = Report::read(root.path()).unwrap();
        assert_eq!(read.readings(), Some(readings));
        assert_eq!((read.outcome, read.warnings), (Outcome::Unlocked, report.warnings));
    }

    #[test]
    fn without_a_report_status_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Report::read(root.path()).unwrap_err().slug(), "no-report");
    }
}
