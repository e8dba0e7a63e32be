//! The dry run: the pipeline up to the proof. It extends, maps and writes nothing; in a fenced boot, where nothing can be
//! unsealed, it judges policies by what that boot's unlock recorded.

use std::time::Duration;

use super::fallback::Fallback;
use super::notes::{described, note, refuse, tokens};
use super::prove::{Judged, Unproven};
use super::search::{Chip, Trial};
use super::select::SelectError;
use super::{Headed, Host};
use crate::base::error::Error;
use crate::base::source::Source;
use crate::base::warning::Warning;
use crate::discover::{Discovery, uevent};
use crate::fence::{FenceError, Unfenced};
use crate::format::luks::Snapshot;
use crate::format::token::systemd_tpm2::Token;
use crate::policy;
use crate::report::{Outcome, RefusedVolume, Report, VolumeReport};
use crate::tpm::esapi::EsapiTpm;
use crate::unseal::Tokens;

impl Host<'_> {
    /// Takes a volume as far as the proof, and extends, maps and writes nothing. `volume` is a named one (its bytes,
    /// length and logical sector size in bytes), else the root volume is found as a boot would. In a fenced boot only the
    /// policies are judged, by the PCR values that this boot's unlock recorded.
    ///
    /// # Errors
    /// Those of the stages up to verify.
    pub fn dry_run(&self, volume: Option<(&dyn Source, u64, u32)>, report: &mut Report) -> Result<(), Error> {
        self.lock_memory(report);
        let (named, candidates) = match volume {
            Some((source, length, sector)) => {
                (Some((source, self.read_header(source, length, sector, report)?)), Vec::new())
            }
            None => {
                let discovery = Discovery::open(self.root.to_owned(), uevent::Stationary);
                let found = report.stage("discover", |_| discovery.find(Duration::ZERO))?;
                note(&found, report);
                (None, self.read_headers(found.candidates, report))
            }
        };
        if self.config.tpm.waiver().is_some() {
            // Whether a volume opens is the key broker's to say, whom a dry run does not ask.
            return self.try_all(named, candidates, Trial::new(None), report);
        }
        let mut tpm = EsapiTpm::open(self.tpm)?;
        let found = candidates.iter().filter_map(|(_, snapshot)| snapshot.as_ref().ok());
        let tokens = tokens(named.iter().map(|(_, snapshot)| snapshot).chain(found));
        match Unfenced::check_and_read(&mut tpm, &policy::at_entry(&tokens)) {
            Err(error @ FenceError::NotZero(_)) => {
                let named =
                    named.map(|(_, snapshot)| (report.volume.clone().unwrap_or_default(), Ok(snapshot)));
                let found =
                    candidates.into_iter().map(|(candidate, snapshot)| (described(&candidate), snapshot));
                return self.judge(named.into_iter().chain(found).collect(), &tokens, error, report);
            }
            Err(error) => return Err(error.into()),
            Ok((unfenced, readings)) => {
                let state = self.state(&tokens, readings, report)?;
                let trial = Trial::new(Some(Chip { tpm: &mut tpm, unfenced: &unfenced, state }));
                self.try_all(named, candidates, trial, report)?;
            }
        }
        report.outcome = Outcome::WouldUnlock;
        Ok(())
    }

    /// Puts the named volume, or those that were found, to the proof.
    fn try_all(
        &self,
        named: Option<(&dyn Source, Snapshot)>,
        candidates: Vec<Headed>,
        mut trial: Trial<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        if let Some((source, snapshot)) = named {
            let proved = self.prove(&snapshot, source, &mut trial, report);
            return match proved {
                Ok(_verified) => Ok(()),
                Err(unproven) => Err(self.would_attest(unproven, &snapshot, report)),
            };
        }
        let Judged { proven, undecided } = self.prove_one(candidates, &mut trial, report)?;
        if proven.is_some() {
            return Ok(());
        }
        if !undecided.is_empty() {
            report.warn(would_attest());
        }
        undecided.into_iter().for_each(|undecided| undecided.refuse(&mut trial, report));
        Err(trial.into_error(report))
    }

    /// Where a boot would ask a key broker, a dry run says so: it asks nobody.
    fn would_attest(&self, unproven: Unproven, snapshot: &Snapshot, report: &mut Report) -> Error {
        if unproven.fallback == Fallback::Attest && self.may_attest(snapshot) {
            report.warn(would_attest());
        }
        unproven.error
    }

    /// Judges the policies of `volumes` by the PCR values in the report of this boot; without them it is `fenced`. A header
    /// that is refused is refused here, too.
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
        for (mut volume, snapshot) in volumes {
            let judged = snapshot.and_then(|snapshot| {
                volume.luks_uuid = Some(snapshot.uuid().to_string());
                let mut tokens = Tokens::of(&snapshot);
                let holds = tokens.evaluate(&self.rules(), &mut state);
                refuse(&tokens, report);
                holds.ok_or_else(|| tokens.into_error().into())
            });
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
