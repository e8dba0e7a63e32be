//! Picks the volume that the TPM can authenticate, or else a key broker. Candidates are untrusted; only what
//! the TPM unseals, what a pinned key broker releases and what the configuration names is trusted.

use super::attempt::Attempt;
use super::broker::{BrokerError, BrokerKeys, admitted, is_attestable};
use super::error::SelectError;
use super::fallback::Fallback;
use super::given::Unproven;
use super::key_source::KeySource;
use super::machine::Machine;
use super::tpm_keys::TpmKeys;
use super::trial::Trial;
use super::volume::{Volume, described};
use crate::attest::AttestError;
use crate::base::error::Error;
use crate::base::source::Source;
use crate::base::warning::Warning;
use crate::discover::Candidate;
use crate::format::luks::Snapshot;
use crate::prove::Verified;
use crate::report::{Report, VolumeReport};

/// A volume with all proofs that the configuration requires. It may be mapped once PCR 15 is fenced.
pub(super) struct Picked {
    pub(super) candidate: Candidate,
    pub(super) snapshot: Snapshot,
    pub(super) verified: Verified,
    pub(super) volume: VolumeReport,
}

/// The TPM's results for the candidates of one look.
pub(super) struct Judged {
    pub(super) picked: Option<Picked>,
    pub(super) undecided: Vec<Undecided>,
}

/// A volume that the TPM did not open, but for which a key broker may be asked.
pub(super) struct Undecided {
    candidate: Candidate,
    snapshot: Snapshot,
    volume: VolumeReport,
    /// Why the TPM did not open it.
    error: Error,
}

impl Undecided {
    /// Refuses the volume with the TPM's error, without asking a key broker.
    pub(super) fn refuse(self, trial: &mut Trial<'_>, report: &mut Report) {
        trial.refuse(self.volume, self.error, report);
    }
}

impl Machine<'_> {
    /// Picks the one candidate that the TPM authenticates, if any. A second one is an error, since nobody can
    /// say which is ours.
    pub(super) fn pick_by_tpm(
        &self,
        volumes: Vec<Volume>,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Judged, Error> {
        let mut judged = Judged { picked: None, undecided: Vec::new() };
        for Volume { candidate, snapshot } in volumes {
            let volume = described(&candidate);
            let snapshot = match snapshot {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    trial.refuse(volume, error, report);
                    continue;
                }
            };
            let Attempt { account, outcome } = self.try_tpm(volume, &snapshot, &candidate.file, trial);
            let volume = report.absorb(account);
            match outcome {
                Ok(verified) => {
                    pick(&mut judged.picked, Picked { candidate, snapshot, verified, volume })?;
                }
                Err(Unproven { error, fallback: Fallback::Attest }) if self.may_attest(&snapshot) => {
                    judged.undecided.push(Undecided { candidate, snapshot, volume, error });
                }
                Err(Unproven { error, .. }) => {
                    trial.refuse(volume, error, report);
                    if trial.tpm_is_lost() {
                        break;
                    }
                }
            }
        }
        Ok(judged)
    }

    /// Picks the one of `undecided` that a key broker opens, if any. A second one is an error, as with the
    /// TPM.
    pub(super) fn pick_by_broker(
        &self,
        undecided: Vec<Undecided>,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Option<Picked>, Error> {
        let mut picked = None;
        for undecided in undecided {
            if trial.tpm_is_lost() || trial.brokers.are_lost() {
                undecided.refuse(trial, report);
                continue;
            }
            let Undecided { candidate, snapshot, volume, error: tpms } = undecided;
            let Attempt { account, outcome } = self.try_broker(volume, &snapshot, &candidate.file, trial);
            let volume = report.absorb(account);
            match outcome {
                Ok(verified) => {
                    pick(&mut picked, Picked { candidate, snapshot, verified, volume })?;
                    if trial.tpm.is_some() {
                        report.warn(Warning::new(
                            "unlocked-by-attestation",
                            format!("The TPM did not give the key, a key broker did: {}", tpms.chain()),
                        ));
                    }
                }
                Err(Unproven { error, .. }) => trial.refuse(volume, error, report),
            }
        }
        Ok(picked)
    }

    /// Whether there is a key broker to ask, and a token to ask about.
    pub(super) fn may_attest(&self, snapshot: &Snapshot) -> bool {
        self.config.kbs.is_some() && is_attestable(snapshot)
    }

    /// Tries the secrets that the TPM unseals on one volume.
    pub(super) fn try_tpm<S: Source + ?Sized>(
        &self,
        mut volume: VolumeReport,
        snapshot: &Snapshot,
        source: &S,
        trial: &mut Trial<'_>,
    ) -> Attempt {
        if let Err(error) = trial.budget.admit(snapshot) {
            return Attempt::none(volume, error.into());
        }
        volume.luks_uuid = Some(snapshot.uuid().to_string());
        let Some(tpm) = &mut trial.tpm else { return Attempt::none(volume, without_tpm(snapshot)) };
        let keys = TpmKeys::of(snapshot, tpm, self.token_rules());
        Attempt::run(volume, (snapshot, source), KeySource::Tpm(keys), self.config.proof_rules())
    }

    fn try_broker<S: Source + ?Sized>(
        &self,
        volume: VolumeReport,
        snapshot: &Snapshot,
        source: &S,
        trial: &mut Trial<'_>,
    ) -> Attempt {
        let Some(settings) = &self.config.kbs else {
            return Attempt::none(volume, AttestError::NotConfigured.into());
        };
        let keys = BrokerKeys {
            settings,
            root: self.root,
            tpm: trial.tpm.as_mut(),
            brokers: &mut trial.brokers,
            budget: &mut trial.budget,
            snapshot,
            tokens: admitted(snapshot),
        };
        Attempt::run(volume, (snapshot, source), KeySource::Broker(keys), self.config.proof_rules())
    }
}

/// Without a TPM, the key broker is next.
fn without_tpm(snapshot: &Snapshot) -> Unproven {
    let error = if is_attestable(snapshot) { BrokerError::Waived } else { BrokerError::NoToken };
    Unproven { error: error.into(), fallback: Fallback::Attest }
}

/// Accepts the first proven volume, and refuses a second one.
fn pick(picked: &mut Option<Picked>, next: Picked) -> Result<(), SelectError> {
    if let Some(first) = picked {
        return Err(SelectError::Several(first.candidate.path.clone(), next.candidate.path));
    }
    *picked = Some(next);
    Ok(())
}
