//! What happened to one volume in one attempt to open it.

use super::{Stages, TokenReport, VolumeReport};
use crate::base::warning::Warning;

/// What one attempt learned about a volume.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The volume, and what opened it.
    pub volume: VolumeReport,
    /// Its tokens that opened nothing, in order.
    pub refused_tokens: Vec<TokenReport>,
    /// What an operator should know although the volume opened.
    pub warnings: Vec<Warning>,
    /// How long each step took.
    pub stages: Stages,
}

impl Account {
    /// Starts with what is known about the volume.
    #[must_use]
    pub fn of(volume: VolumeReport) -> Self {
        Self { volume, ..Self::default() }
    }

    /// Records why a token opened nothing.
    pub fn refuse(&mut self, token: TokenReport) {
        self.refused_tokens.push(TokenReport { device: self.volume.device.clone(), ..token });
    }

    /// Records a warning and logs it.
    pub fn warn(&mut self, warning: Warning) {
        log::warn!("{} [{}]", warning.message, warning.slug);
        self.warnings.push(warning);
    }
}
