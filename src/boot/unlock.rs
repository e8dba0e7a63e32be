//! The unlock of a boot: finds, proves, fences and maps the root volume.

use std::time::Instant;

use super::machine::Machine;
use super::pick::Picked;
use super::tpm_keys::OpenTpm;
use super::trial::Trial;
use super::volume::record_pcrs;
use crate::activate;
use crate::activate::NAME;
use crate::base::error::{Error, chain};
use crate::base::pcr::Pcr;
use crate::base::warning::Warning;
use crate::discover::uevent::Listener;
use crate::discover::{DiscoverError, Discovery, systemd_variables};
use crate::fence::measurement_log::MeasurementLog;
use crate::fence::{Fenced, Unfenced};
use crate::policy;
use crate::report::{FenceReport, Outcome, Report};
use crate::tpm::esapi::EsapiTpm;

impl Machine<'_> {
    /// Finds, proves, fences and maps the root volume. A failure is fenced, too.
    ///
    /// # Errors
    /// Every stage's.
    pub fn unlock(&self, report: &mut Report) -> Result<(), Error> {
        let mut tpm = None;
        let outcome = self.run(report, &mut tpm);
        if outcome.is_err() && self.config.tpm.waiver().is_none() {
            self.fence_failure(tpm, report);
        }
        outcome
    }

    fn run(&self, report: &mut Report, tpm: &mut Option<EsapiTpm>) -> Result<(), Error> {
        self.lock_memory(report);
        let listener = Listener::open().map_err(DiscoverError::from)?;
        let discovery = Discovery::open(self.root.to_owned(), &listener);
        let start = Instant::now();
        let deadline = self.config.device_timeout_seconds.duration();
        let found = report.stages.time("discover", || discovery.find(deadline))?;
        let look = self.look(found, report);
        let (picked, fenced) = match self.config.tpm.waiver() {
            None => {
                let tpm = tpm.insert(report.stages.time("tpm", || self.open_tpm(&listener))?);
                // With an open TPM, so that the refusal is fenced.
                systemd_variables::refuse_if_set(self.root)?;
                let tokens = look.tokens();
                let (unfenced, readings) = Unfenced::check_and_read(tpm, &policy::at_entry(&tokens))?;
                let mut state = self.state(&tokens, readings, report)?;
                record_pcrs(&tokens, &mut state, tpm, report);
                let trial = Trial::new(Some(OpenTpm { tpm, unfenced: &unfenced, state, lost: false }));
                let picked = self.search(&discovery, start, look, trial, report)?;
                report.volume = Some(picked.volume.clone());
                let fenced = self.raise_fence(unfenced, tpm, &picked, report)?;
                (picked, fenced)
            }
            Some(waiver) => {
                systemd_variables::refuse_if_set(self.root)?;
                let picked = self.search(&discovery, start, look, Trial::new(None), report)?;
                report.volume = Some(picked.volume.clone());
                report.warn(Warning::new(
                    "fence-absent",
                    "The configuration waives the TPM: no PCR shows that the key was given in this boot",
                ));
                (picked, Fenced::waived(waiver))
            }
        };
        let Picked { candidate, snapshot, verified, .. } = &picked;
        let activate = || activate::activate(&fenced, verified, snapshot, candidate, self.root);
        let mapped = report.stages.time("activate", activate)?;
        let published = report.stages.time("publish", || activate::publish(&mapped, self.root))?;
        report.volume = Some(picked.volume.mapped_as(published.device));
        report.outcome = Outcome::Unlocked;
        Ok(())
    }

    fn raise_fence(
        &self,
        unfenced: Unfenced,
        tpm: &mut EsapiTpm,
        picked: &Picked,
        report: &mut Report,
    ) -> Result<Fenced, Error> {
        let uuid = picked.snapshot.uuid();
        let log = MeasurementLog::new(self.root);
        let raise = || unfenced.raise(tpm, &picked.verified.key, NAME, uuid, &log);
        let fenced = report.stages.time("fence", raise)?;
        if let Some(error) = fenced.unlogged() {
            report.warn(Warning::new("measurement-log-failed", chain(error)));
        }
        report.fence = Some(FenceReport {
            pcr: Pcr::FENCE.number(),
            banks: fenced.digests().iter().map(|(bank, _)| bank.to_string()).collect(),
            measured: "volume key".to_owned(),
        });
        Ok(fenced)
    }
}
