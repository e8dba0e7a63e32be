//! Writes the report to a file below `/run`, atomically, and reads it back in the booted system.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Report;
use crate::base::error::failures;

impl Report {
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
    /// `no-report`, or `report-unreadable` if the file is not a report of ours.
    pub fn read(root: &Path) -> Result<Self, ReportError> {
        let path = root.join(PATH);
        let text = fs::read(&path).map_err(|source| ReportError::Read { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|source| ReportError::Parse { path, source })
    }
}

/// Why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The report could not be written.
    #[error("Writing the report {}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The report could not be read.
    #[error("Reading the report {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file is not a report.
    #[error("Parsing the report {}", path.display())]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

failures! { ReportError:
    Self::Write { .. } => "report-not-written", Os, "";
    Self::Read { .. } => "no-report", Unavailable, "Was this boot's root volume unlocked by cvm-unlock?";
    Self::Parse { .. } => "report-unreadable", Data, "";
}

/// Path of the report. `/run` is passed on to the booted system.
pub const PATH: &str = "run/cvm-unlock/report.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use crate::base::pcr::{Bank, Pcr, PcrValues};
    use crate::base::warning::Warning;
    use crate::report::Outcome;
    use crate::tpm::readings::Readings;

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
