//! The dry run: everything up to the proof, without extending, mapping or writing anything. In a fenced boot,
//! where nothing can be unsealed, it judges policies by the PCR values that the boot's unlock recorded.

use std::time::Duration;

use super::attempt::Attempt;
use super::error::SelectError;
use super::fallback::Fallback;
use super::machine::Machine;
use super::pick::Judged;
use super::search::note_disks;
use super::tpm_keys::{OpenTpm, note_skipped};
use super::trial::Trial;
use super::volume::{Volume, described, tokens};
use crate::base::error::Error;
use crate::base::source::Source;
use crate::base::warning::Warning;
use crate::discover::{Discovery, systemd_variables, uevent};
use crate::fence::{FenceError, Unfenced};
use crate::format::luks::Snapshot;
use crate::format::token::systemd_tpm2::Token;
use crate::policy;
use crate::report::{Account, Outcome, RefusedVolume, Report, VolumeReport};
use crate::tpm::esapi::EsapiTpm;
use crate::unseal::Tokens;

/// A volume named on the command line; the report describes it already.
struct Named<'a> {
    source: &'a dyn Source,
    snapshot: Snapshot,
}

impl Machine<'_> {
    /// Runs all stages up to the proof. `volume` is a named one (its bytes, length and logical sector size in
    /// bytes), which `report` describes already; without it, the root volume is found as in a boot. In a
    /// fenced boot only the policies are judged, by the PCR values that this boot's unlock recorded.
    ///
    /// # Errors
    /// Those of the stages up to the proof.
    pub fn dry_run(&self, volume: Option<(&dyn Source, u64, u32)>, report: &mut Report) -> Result<(), Error> {
        self.lock_memory(report);
        let (named, volumes) = match volume {
            Some((source, length, sector)) => (
                Some(Named { source, snapshot: self.read_header(source, length, sector, report)? }),
                Vec::new(),
            ),
            None => {
                systemd_variables::refuse_if_set(self.root)?;
                let discovery = Discovery::open(self.root.to_owned(), uevent::Stationary);
                let found = report.stages.time("discover", || discovery.find(Duration::ZERO))?;
                note_disks(&found, report);
                (None, self.read_headers(found.candidates, report))
            }
        };
        if self.config.tpm.waiver().is_some() {
            // Only the key broker decides whether a volume opens, and a dry run does not ask it.
            return self.try_all(named, volumes, Trial::new(None), report);
        }
        let mut tpm = EsapiTpm::open(self.tpm)?;
        let found = volumes.iter().filter_map(|volume| volume.snapshot.as_ref().ok());
        let tokens = tokens(named.iter().map(|named| &named.snapshot).chain(found));
        match Unfenced::check_and_read(&mut tpm, &policy::at_entry(&tokens)) {
            Err(error @ FenceError::NotZero(_)) => {
                let named =
                    named.map(|named| (report.volume.clone().unwrap_or_default(), Ok(named.snapshot)));
                let found = volumes.into_iter().map(|volume| (described(&volume.candidate), volume.snapshot));
                return self.judge(named.into_iter().chain(found).collect(), &tokens, error, report);
            }
            Err(error) => return Err(error.into()),
            Ok((unfenced, readings)) => {
                let state = self.state(&tokens, readings, report)?;
                let open = OpenTpm { tpm: &mut tpm, unfenced: &unfenced, state, lost: false };
                self.try_all(named, volumes, Trial::new(Some(open)), report)?;
            }
        }
        report.outcome = Outcome::WouldUnlock;
        Ok(())
    }

    /// Tries the named volume, or those that were found.
    fn try_all(
        &self,
        named: Option<Named<'_>>,
        volumes: Vec<Volume>,
        mut trial: Trial<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        if let Some(Named { source, snapshot }) = named {
            let volume = report.volume.take().unwrap_or_default();
            let Attempt { account, outcome } = self.try_tpm(volume, &snapshot, source, &mut trial);
            report.volume = Some(report.absorb(account));
            let Err(unproven) = outcome else { return Ok(()) };
            if unproven.fallback == Fallback::Attest && self.may_attest(&snapshot) {
                report.warn(would_attest());
            }
            return Err(unproven.error);
        }
        let Judged { picked, undecided } = self.pick_by_tpm(volumes, &mut trial, report)?;
        if let Some(picked) = picked {
            report.volume = Some(picked.volume);
            return Ok(());
        }
        if !undecided.is_empty() {
            report.warn(would_attest());
        }
        undecided.into_iter().for_each(|undecided| undecided.refuse(&mut trial, report));
        Err(trial.into_error(report))
    }

    /// Judges the policies of `volumes` by the PCR values in this boot's report. Without that report, the
    /// error is `fenced`. A refused header is an error here, too.
    fn judge(
        &self,
        volumes: Vec<(VolumeReport, Result<Snapshot, Error>)>,
        tokens: &[Token],
        fenced: FenceError,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(readings) = Report::read(self.root).ok().and_then(|report| report.readings()) else {
            return Err(fenced.into());
        };
        report.warn(Warning::new(
            "boot-fenced",
            "This boot is fenced, nothing can be unsealed: policies are judged by the PCR values that its unlock found",
        ));
        let mut state = self.state(tokens, readings, report)?;
        let mut refusal = None;
        for (volume, snapshot) in volumes {
            let mut account = Account::of(volume);
            let judged = snapshot.and_then(|snapshot| {
                account.volume.luks_uuid = Some(snapshot.uuid().to_string());
                let mut tokens = Tokens::of(&snapshot);
                let holds = tokens.evaluate(&self.token_rules(), &mut state);
                note_skipped(&tokens, &mut account);
                holds.ok_or_else(|| tokens.into_error().into())
            });
            let mut volume = report.absorb(account);
            match judged {
                Ok(token) => {
                    volume.opened_by(&token);
                    report.volume = Some(volume);
                    report.outcome = Outcome::PolicyHolds;
                    return Ok(());
                }
                Err(error) => {
                    report.refused_volumes.push(RefusedVolume::new(&volume, &error));
                    refusal.get_or_insert((error, volume));
                }
            }
        }
        let Some((error, volume)) = refusal else { return Err(SelectError::None.into()) };
        report.volume = Some(volume);
        Err(error)
    }
}

fn would_attest() -> Warning {
    Warning::new(
        "would-attest",
        "The TPM gives no key: a boot would ask the key brokers (cvm-unlock attest --connect tries them)",
    )
}
