//! The proof: candidates with their headers come in, the one volume that proves itself goes out. Candidates are the
//! host's; trusted is what the TPM unseals and what the configuration names.

use super::notes::{described, refuse};
use super::{Headed, Host, SelectError, Trial};
use crate::discover::Candidate;
use crate::error::Error;
use crate::luks::Snapshot;
use crate::report::{ProofReport, RefusedVolume, Report, TokenReport};
use crate::source::Source;
use crate::unseal::{Tokens, Unsealed};
use crate::verify::{self, Verified};

/// A volume that has proved itself as far as the configuration asks, and may be mapped once PCR 15 is fenced.
pub(super) struct Proven {
    pub(super) candidate: Candidate,
    pub(super) snapshot: Snapshot,
    pub(super) verified: Verified,
}

impl Host<'_> {
    /// The one candidate that proves itself, if there is one. A second one that does is refused: then nobody can say
    /// which is ours.
    pub(super) fn prove_one(
        &self,
        candidates: Vec<Headed>,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Option<Proven>, Error> {
        let mut proven: Option<Proven> = None;
        let mut ours = None;
        for (candidate, snapshot) in candidates {
            report.volume = Some(described(&candidate));
            let before = report.refused_tokens.len();
            let outcome = snapshot.and_then(|snapshot| {
                let verified = self.prove(&snapshot, &candidate.file, trial, report)?;
                Ok((snapshot, verified))
            });
            let volume = report.volume.take().unwrap_or_default();
            for token in report.refused_tokens.iter_mut().skip(before) {
                token.device.clone_from(&volume.device);
            }
            match outcome {
                Ok((snapshot, verified)) => {
                    if let Some(first) = &proven {
                        return Err(SelectError::Several(first.candidate.path.clone(), candidate.path).into());
                    }
                    proven = Some(Proven { candidate, snapshot, verified });
                    ours = Some(volume);
                }
                Err(error) => {
                    log::warn!(
                        "{} is not our root volume: {} [{}]",
                        volume.device,
                        error.chain(),
                        error.slug()
                    );
                    report.refused_volumes.push(RefusedVolume::new(&volume, &error));
                    trial.refuse(error, volume);
                    if trial.hopeless {
                        break;
                    }
                }
            }
        }
        report.volume = ours;
        Ok(proven)
    }

    pub(super) fn prove<S: Source + ?Sized>(
        &self,
        snapshot: &Snapshot,
        source: &S,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Verified, Error> {
        trial.admit(snapshot)?;
        report.volume.get_or_insert_default().luks_uuid = Some(snapshot.uuid().to_string());
        let rules = self.rules();
        let mut tokens = Tokens::new(snapshot.tokens());
        let mut refusal = None;
        while let Some(unsealed) =
            report.stage("unseal", |_| tokens.unseal(trial.tpm, trial.unfenced, &rules, &mut trial.state))
        {
            let verified = report.stage("verify", |_| self.verify(&unsealed, snapshot, source));
            let token = unsealed.token();
            match verified {
                Ok(verified) => {
                    let volume = report.volume.get_or_insert_default();
                    volume.opened_by(token);
                    volume.proof =
                        Some(ProofReport::new(verified.proven.bound, verified.proven.authenticity));
                    refuse(&tokens, report);
                    for warning in &verified.warnings {
                        report.warn(warning.clone());
                    }
                    return Ok(verified);
                }
                Err(error) => {
                    report.refused_tokens.push(TokenReport::new(token.id, error.slug(), error.chain()));
                    refusal = refusal.or(Some(error));
                }
            }
        }
        refuse(&tokens, report);
        trial.hopeless |= tokens.is_hopeless();
        Err(refusal.unwrap_or_else(|| tokens.into_error().into()))
    }

    fn verify<S: Source + ?Sized>(
        &self,
        unsealed: &Unsealed,
        snapshot: &Snapshot,
        source: &S,
    ) -> Result<Verified, Error> {
        let area = snapshot.read_area(source, unsealed.token().keyslot)?;
        Ok(verify::verify(unsealed, snapshot, &area, self.config)?)
    }
}
