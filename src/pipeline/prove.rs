//! The proof: candidates with their headers come in; the one volume that proves itself by the TPM goes out, and those that
//! a key broker may decide about. Candidates are the host's; trusted is what the TPM unseals and what the configuration
//! names.

use super::attest::is_attestable;
use super::fallback::Fallback;
use super::notes::{described, of_volume, refuse, refuse_volume};
use super::{BrokerError, Headed, Host, SelectError, Trial};
use crate::base::error::{Error, Failure};
use crate::base::source::Source;
use crate::discover::Candidate;
use crate::format::luks::Snapshot;
use crate::prove;
use crate::prove::Verified;
use crate::report::{Report, TokenReport, VolumeReport};
use crate::unseal::{Tokens, UnsealError, Unsealed};

/// A volume that has proved itself as far as the configuration asks, and may be mapped once PCR 15 is fenced.
pub(super) struct Proven {
    pub(super) candidate: Candidate,
    pub(super) snapshot: Snapshot,
    pub(super) verified: Verified,
}

/// What the TPM made of the candidates of one look.
pub(super) struct Judged {
    pub(super) proven: Option<Proven>,
    pub(super) undecided: Vec<Undecided>,
}

/// A volume that the TPM did not open, and about which a key broker may be asked.
pub(super) struct Undecided {
    pub(super) candidate: Candidate,
    pub(super) snapshot: Snapshot,
    pub(super) volume: VolumeReport,
    /// Why the TPM did not.
    pub(super) error: Error,
}

impl Undecided {
    /// Nobody is asked: the TPM's word stands.
    pub(super) fn refuse(self, trial: &mut Trial<'_>, report: &mut Report) {
        refuse_volume(self.volume, self.error, trial, report);
    }
}

/// Why a volume did not prove itself by the TPM, and whether that is the end.
pub(super) struct Unproven {
    pub(super) error: Error,
    pub(super) fallback: Fallback,
}

impl<F: Failure> From<F> for Unproven {
    fn from(failure: F) -> Self {
        Self { error: failure.into(), fallback: Fallback::Final }
    }
}

impl Unproven {
    fn without_secret(error: UnsealError) -> Self {
        let fallback = Fallback::after(&error);
        Self { error: error.into(), fallback }
    }

    /// Without a TPM it is the key broker's turn at once.
    fn waived(snapshot: &Snapshot) -> Self {
        let error = if is_attestable(snapshot) { BrokerError::Waived } else { BrokerError::NoToken };
        Self { error: error.into(), fallback: Fallback::Attest }
    }

    fn and(self, other: Fallback) -> Self {
        Self { fallback: self.fallback.and(other), ..self }
    }
}

impl Host<'_> {
    /// The one candidate that proves itself by the TPM, if there is one. A second one that does is refused: then nobody
    /// can say which is ours.
    pub(super) fn prove_one(
        &self,
        candidates: Vec<Headed>,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Judged, Error> {
        let mut judged = Judged { proven: None, undecided: Vec::new() };
        let mut ours = None;
        for (candidate, snapshot) in candidates {
            report.volume = Some(described(&candidate));
            let snapshot = match snapshot {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    refuse_volume(report.volume.take().unwrap_or_default(), error, trial, report);
                    continue;
                }
            };
            let before = report.refused_tokens.len();
            let outcome = self.prove(&snapshot, &candidate.file, trial, report);
            let volume = report.volume.take().unwrap_or_default();
            of_volume(&volume, before, report);
            match outcome {
                Ok(verified) => {
                    if let Some(first) = &judged.proven {
                        return Err(SelectError::Several(first.candidate.path.clone(), candidate.path).into());
                    }
                    judged.proven = Some(Proven { candidate, snapshot, verified });
                    ours = Some(volume);
                }
                Err(Unproven { error, fallback: Fallback::Attest }) if self.may_attest(&snapshot) => {
                    judged.undecided.push(Undecided { candidate, snapshot, volume, error });
                }
                Err(Unproven { error, .. }) => {
                    refuse_volume(volume, error, trial, report);
                    if trial.hopeless {
                        break;
                    }
                }
            }
        }
        report.volume = ours;
        Ok(judged)
    }

    /// Whether there is a key broker to ask, and something to ask it for.
    pub(super) fn may_attest(&self, snapshot: &Snapshot) -> bool {
        self.config.kbs.is_some() && is_attestable(snapshot)
    }

    /// Takes one volume as far as the proof, by what the TPM unseals.
    pub(super) fn prove<S: Source + ?Sized>(
        &self,
        snapshot: &Snapshot,
        source: &S,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Verified, Unproven> {
        trial.admit(snapshot)?;
        report.volume.get_or_insert_default().luks_uuid = Some(snapshot.uuid().to_string());
        let Some(chip) = &mut trial.chip else { return Err(Unproven::waived(snapshot)) };
        let rules = self.rules();
        let mut tokens = Tokens::of(snapshot);
        let mut refusal: Option<Unproven> = None;
        while let Some(unsealed) =
            report.stage("unseal", |_| tokens.unseal(chip.tpm, chip.unfenced, &rules, &mut chip.state))
        {
            let token = unsealed.token();
            match report.stage("verify", |_| self.verify(&unsealed, snapshot, source)) {
                Ok(verified) => {
                    let volume = report.volume.get_or_insert_default();
                    volume.opened_by(token);
                    volume.proven(&verified.proven);
                    refuse(&tokens, report);
                    for warning in &verified.warnings {
                        report.warn(warning.clone());
                    }
                    return Ok(verified);
                }
                Err(unproven) => {
                    let error = &unproven.error;
                    report.refused_tokens.push(TokenReport::new(token.id, error.slug(), error.chain()));
                    refusal = Some(match refusal {
                        Some(first) => first.and(unproven.fallback),
                        None => unproven,
                    });
                }
            }
        }
        refuse(&tokens, report);
        trial.hopeless |= tokens.is_hopeless();
        Err(refusal.unwrap_or_else(|| Unproven::without_secret(tokens.into_error())))
    }

    fn verify<S: Source + ?Sized>(
        &self,
        unsealed: &Unsealed,
        snapshot: &Snapshot,
        source: &S,
    ) -> Result<Verified, Unproven> {
        let area = snapshot.read_area(source, unsealed.token().keyslot)?;
        prove::verify(unsealed, snapshot, &area, self.config.proof_rules()).map_err(|error| {
            let fallback = Fallback::after_secret(&error);
            Unproven { error: error.into(), fallback }
        })
    }
}
