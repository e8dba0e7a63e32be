//! The resources of a boot for trying volumes, and the first refusal.

use super::broker::Brokers;
use super::budget::Budget;
use super::error::SelectError;
use super::tpm_keys::OpenTpm;
use crate::base::error::Error;
use crate::report::{RefusedVolume, Report, VolumeReport};

/// The resources of a boot, and its first refusal.
pub(super) struct Trial<'a> {
    /// `None` if the configuration waives the TPM.
    pub(super) tpm: Option<OpenTpm<'a>>,
    pub(super) brokers: Brokers,
    pub(super) budget: Budget,
    refusal: Option<(Error, VolumeReport)>,
}

impl<'a> Trial<'a> {
    pub(super) const fn new(tpm: Option<OpenTpm<'a>>) -> Self {
        Self { tpm, brokers: Brokers::unasked(), budget: Budget::full(), refusal: None }
    }

    /// Whether the TPM will open nothing more, so that nothing it says counts.
    pub(super) fn tpm_is_lost(&self) -> bool {
        self.tpm.as_ref().is_some_and(|tpm| tpm.lost)
    }

    /// Whether nothing can open any volume, so that waiting for another disk is pointless.
    pub(super) fn is_over(&self) -> bool {
        self.tpm_is_lost() || (self.tpm.is_none() && self.brokers.are_lost())
    }

    /// Records why a volume is not our root volume. A failed boot reports the first refusal.
    pub(super) fn refuse(&mut self, volume: VolumeReport, error: Error, report: &mut Report) {
        log::warn!("{} is not our root volume: {} [{}]", volume.device, error.chain(), error.slug());
        report.refused_volumes.push(RefusedVolume::new(&volume, &error));
        self.refusal.get_or_insert((error, volume));
    }

    /// The error of a boot without a volume.
    pub(super) fn into_error(self, report: &mut Report) -> Error {
        let Some((error, volume)) = self.refusal else { return SelectError::None.into() };
        report.volume = Some(volume);
        error
    }
}
