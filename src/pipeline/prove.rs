//! The proof: candidates with their headers come in, the one volume that proves itself goes out. Candidates are the
//! host's; trusted is what the TPM unseals and what the configuration names.

use super::notes::{described, refuse};
use super::{Headed, Host, SelectError};
use crate::discover::Candidate;
use crate::error::Error;
use crate::fence::Unfenced;
use crate::luks::Snapshot;
use crate::policy::State;
use crate::report::{Report, TokenReport};
use crate::source::Source;
use crate::tpm::Tpm;
use crate::unseal::{Tokens, Unsealed};
use crate::verify::{self, Verified};

/// A volume that has proved itself as far as the configuration asks, and may be mapped once PCR 15 is fenced.
pub(super) struct Proven {
    pub(super) candidate: Candidate,
    pub(super) snapshot: Snapshot,
    pub(super) verified: Verified,
}

impl Host<'_> {
    /// The one candidate that proves itself. A second one that does is refused: then nobody can say which is ours.
    pub(super) fn prove_one(
        &self,
        candidates: Vec<Headed>,
        tpm: &mut dyn Tpm,
        unfenced: &Unfenced,
        state: &mut State,
        report: &mut Report,
    ) -> Result<Proven, Error> {
        let mut proven: Option<Proven> = None;
        let mut refused = None;
        for (candidate, snapshot) in candidates {
            report.volume = Some(described(&candidate));
            let outcome = snapshot.and_then(|snapshot| {
                let verified = self.prove(&snapshot, &candidate.file, tpm, unfenced, state, report)?;
                Ok((snapshot, verified))
            });
            match outcome {
                Ok((snapshot, verified)) => {
                    if let Some(first) = &proven {
                        return Err(SelectError::Several(first.candidate.path.clone(), candidate.path).into());
                    }
                    proven = Some(Proven { candidate, snapshot, verified });
                }
                // The first refusal is the one that explains; later candidates are noted in the log.
                Err(error) => {
                    log::warn!(
                        "{} is not our root volume: {error} [{}]",
                        candidate.path.display(),
                        error.slug()
                    );
                    refused = refused.or(Some(error));
                }
            }
        }
        match (proven, refused) {
            (Some(proven), _) => Ok(proven),
            (None, Some(error)) => Err(error),
            (None, None) => Err(SelectError::None.into()),
        }
    }

    pub(super) fn prove<S: Source + ?Sized>(
        &self,
        snapshot: &Snapshot,
        source: &S,
        tpm: &mut dyn Tpm,
        unfenced: &Unfenced,
        state: &mut State,
        report: &mut Report,
    ) -> Result<Verified, Error> {
        report.volume.get_or_insert_default().luks_uuid = Some(snapshot.uuid().to_string());
        let rules = self.rules();
        let mut tokens = Tokens::new(snapshot.tokens());
        let mut refusal = None;
        while let Some(unsealed) = report.stage("unseal", |_| tokens.unseal(tpm, unfenced, &rules, state)) {
            let verified = report.stage("verify", |_| self.verify(&unsealed, snapshot, source));
            let token = unsealed.token();
            match verified {
                Ok(verified) => {
                    let volume = report.volume.get_or_insert_default();
                    volume.token = Some(token.id);
                    volume.keyslot = Some(token.keyslot);
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
