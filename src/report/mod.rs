//! What this boot's unlock came to, as a value: `/run/cvm-unlock/report.json`, a line in the journal, an exit code.
//!
//! Facts of all stages come in; nothing secret is among them, and the file is world-readable.

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
    /// The failure, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// The volume that was opened or, on a failure, the one that the failure is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeReport>,
    /// Each volume that was considered and is not ours, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_volumes: Vec<RefusedVolume>,
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
    #[serde(default, skip_serializing_if = "Stages::is_empty")]
    pub stages: Stages,
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
    /// Notes a warning and logs it.
    pub fn warn(&mut self, warning: Warning) {
        log::warn!("{} [{}]", warning.message, warning.slug);
        self.warnings.push(warning);
    }

    /// Takes up what happened to a volume, and gives back which volume it was: whether it is the one that was opened is
    /// for the caller to say.
    pub fn absorb(&mut self, account: Account) -> VolumeReport {
        let Account { volume, refused_tokens, warnings, stages } = account;
        self.refused_tokens.extend(refused_tokens);
        self.warnings.extend(warnings);
        self.stages.extend(stages);
        volume
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
}

/// Version of the format.
const VERSION: u32 = 1;
