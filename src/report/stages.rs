//! How long each stage took.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The stages of a run, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stages(Vec<StageReport>);

/// The time that a stage took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageReport {
    /// Which stage.
    pub stage: String,
    /// Microseconds.
    pub microseconds: u64,
}

impl Stages {
    /// Runs a stage and records its time.
    pub fn time<T>(&mut self, stage: &str, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let outcome = run();
        let microseconds = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.push(StageReport { stage: stage.to_owned(), microseconds });
        outcome
    }

    /// Adds the stages of a part of the run.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether none ran.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stages.
    pub fn iter(&self) -> impl Iterator<Item = &StageReport> {
        self.0.iter()
    }
}
