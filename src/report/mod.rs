//! The report of an unlock: `/run/cvm-unlock/report.json`, an entry in the journal, and an exit code.
//!
//! It contains nothing secret, and the file is world-readable.

mod account;
mod attestation;
mod file;
pub mod journal;
mod proof;
mod stages;
mod token;
mod volume;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::error::Error;
use crate::base::hex;
use crate::base::pcr::{Bank, Pcr, PcrValues};
use crate::base::warning::Warning;
use crate::tpm::readings::Readings;
pub use account::Account;
pub use attestation::AttestationReport;
pub use file::{PATH, ReportError};
pub use proof::{AuthenticityReport, BindingReport, PolicyReport, ProofReport};
pub use stages::{StageReport, Stages};
pub use token::{PcrReport, TokenReport};
pub use volume::{RefusedVolume, VolumeReport};

/// The report of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of this format. Members may be added within a version; they are never renamed or removed.
    pub version: u32,
    /// How the run ended.
    pub outcome: Outcome,
    /// The failure, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// The volume that was opened or, after a failure, the one that the failure is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeReport>,
    /// Each volume that was considered but is not ours, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_volumes: Vec<RefusedVolume>,
    /// Each token that was considered but did not open the volume, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_tokens: Vec<TokenReport>,
    /// PCR values at entry, for the PCRs that the volume's tokens bind: by bank and PCR, in hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pcrs: BTreeMap<String, BTreeMap<u8, String>>,
    /// The extension of PCR 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceReport>,
    /// What an operator should know although the volume opened. The slugs are stable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// How long each stage took, in order.
    #[serde(default, skip_serializing_if = "Stages::is_empty")]
    pub stages: Stages,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The root volume is mapped.
    Unlocked,
    /// A dry run succeeded as far as it goes.
    WouldUnlock,
    /// A dry run in a fenced boot: a token's policy holds for the PCR values that this boot's unlock found.
    /// More cannot be tested before the next boot.
    PolicyHolds,
    /// The unlock was refused, or something failed.
    Failed,
}

/// A failure, as `cvm-unlock` printed it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureReport {
    /// Stable name.
    pub slug: String,
    /// One line, outermost cause first.
    pub message: String,
    /// What to do about it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The process's exit code.
    pub exit_code: u8,
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

impl Default for Report {
    fn default() -> Self {
        Self {
            version: VERSION,
            outcome: Outcome::Failed,
            failure: None,
            volume: None,
            refused_volumes: Vec::new(),
            refused_tokens: Vec::new(),
            pcrs: BTreeMap::new(),
            fence: None,
            warnings: Vec::new(),
            stages: Stages::default(),
        }
    }
}

impl Report {
    /// Records a warning and logs it.
    pub fn warn(&mut self, warning: Warning) {
        log::warn!("{} [{}]", warning.message, warning.slug);
        self.warnings.push(warning);
    }

    /// Adds what happened to a volume, and returns which volume it was; the caller decides whether that is
    /// the one that was opened.
    pub fn absorb(&mut self, account: Account) -> VolumeReport {
        let Account { volume, refused_tokens, warnings, stages } = account;
        self.refused_tokens.extend(refused_tokens);
        self.warnings.extend(warnings);
        self.stages.extend(stages);
        volume
    }

    /// Records PCR values.
    pub fn record(&mut self, readings: &Readings) {
        for values in readings.iter() {
            let bank = self.pcrs.entry(values.bank().to_string()).or_default();
            bank.extend(values.iter().map(|(pcr, value)| (pcr.number(), hex::encode(value))));
        }
    }

    /// The recorded PCR values; `None` if there are none, or if they are malformed.
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

    /// Makes this the report of a failure.
    pub fn fail(&mut self, error: &Error) {
        self.outcome = Outcome::Failed;
        self.failure = Some(FailureReport {
            slug: error.slug().to_owned(),
            message: error.chain(),
            hint: error.hint().to_owned(),
            exit_code: error.exit_code(),
        });
    }
}

/// Version of the format.
const VERSION: u32 = 1;
