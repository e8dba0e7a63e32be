//! Searches the disks for the one volume that proves itself. The first disk may not be ours, so a refusal is
//! recorded and the search goes on: until the deadline or, if the loader named its disk, for as long as a
//! clone of that disk may take to appear beside it.
//!
//! Untrusted disks cannot cause unbounded work: discovery limits the candidates, [`super::budget`] the tokens
//! and keys, the deadline the time, and the unit the time of key derivations.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::machine::Machine;
use super::pick::{Judged, Picked};
use super::trial::Trial;
use super::volume::{Volume, record_pcrs, tokens};
use crate::base::error::{Error, Failure, chain};
use crate::base::warning::Warning;
use crate::discover::uevent::Wait;
use crate::discover::{Candidates, Discovery, Instance};
use crate::format::token::systemd_tpm2::{Kind, Token};
use crate::report::Report;

/// The volumes found in one look, and whether they are all that the loader's disk has.
pub(super) struct Look {
    volumes: Vec<Volume>,
    is_loaders: bool,
}

impl Look {
    /// The tokens of all readable headers.
    pub(super) fn tokens(&self) -> Vec<Token> {
        tokens(self.volumes.iter().filter_map(|volume| volume.snapshot.as_ref().ok()))
    }
}

impl Machine<'_> {
    /// Reads the headers of the candidates.
    pub(super) fn look(&self, found: Candidates, report: &mut Report) -> Look {
        note_disks(&found, report);
        let is_loaders = found.are_the_loaders();
        Look { volumes: self.read_headers(found.candidates, report), is_loaders }
    }

    /// Tries the candidates of `look`, then those that appear before the deadline, which counts from `start`.
    ///
    /// # Errors
    /// The first refusal, or [`super::SelectError::Several`].
    pub(super) fn search<W: Wait>(
        &self,
        discovery: &Discovery<W>,
        start: Instant,
        mut look: Look,
        mut trial: Trial<'_>,
        report: &mut Report,
    ) -> Result<Picked, Error> {
        let deadline = self.config.device_timeout_seconds.duration();
        let mut tried = BTreeSet::<Instance>::new();
        loop {
            tried.extend(look.volumes.iter().map(|volume| volume.candidate.instance));
            let Judged { picked, undecided } = self.pick_by_tpm(look.volumes, &mut trial, report)?;
            let picked = match picked {
                Some(picked) => {
                    undecided.into_iter().for_each(|undecided| undecided.refuse(&mut trial, report));
                    Some(picked)
                }
                None => self.pick_by_broker(undecided, &mut trial, report)?,
            };
            if let Some(picked) = picked {
                return Ok(picked);
            }
            if trial.is_over() {
                return Err(trial.into_error(report));
            }
            let left = patience(look.is_loaders, deadline.saturating_sub(start.elapsed()));
            log::info!("Waiting for another disk, {} s at most", left.as_secs());
            let found = match report.stages.time("discover", || discovery.find_beyond(&tried, left)) {
                Ok(found) => found,
                Err(error) => {
                    log::info!("{} [{}]", chain(&error), error.slug());
                    return Err(trial.into_error(report));
                }
            };
            look = self.look(found, report);
            self.learn(&look.tokens(), &mut trial, report)?;
        }
    }

    /// Reads what tokens that appear later need beyond the facts known so far.
    fn learn(&self, tokens: &[Token], trial: &mut Trial<'_>, report: &mut Report) -> Result<(), Error> {
        let Some(open) = &mut trial.tpm else { return Ok(()) };
        if tokens.iter().any(|token| token.kind() == Kind::Signed) {
            open.state.signatures = self.signatures(tokens, report)?;
        }
        record_pcrs(tokens, &mut open.state, open.tpm, report);
        Ok(())
    }
}

/// Records what is unusual about the disks.
pub(super) fn note_disks(found: &Candidates, report: &mut Report) {
    for note in &found.notes {
        let warning = Warning::new(note.slug(), note.to_string());
        // A later look mostly finds the same.
        if !report.warnings.contains(&warning) {
            report.warn(warning);
        }
    }
}

/// How long to wait for another disk after a refusal, with `left` until the deadline.
fn patience(is_loaders: bool, left: Duration) -> Duration {
    if is_loaders { left.min(CLONES_LAG) } else { left }
}

/// Of two disks with the loader's partition, which appear one after the other, the first may be the host's
/// copy. Our own limit: ten times what the drivers of two disks take in an emulated machine.
const CLONES_LAG: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_loader_has_said_which_disk_it_is_a_refusal_waits_for_a_clone_only() {
        let (long, short) = (Duration::from_secs(60), Duration::from_secs(1));
        assert_eq!([patience(false, long), patience(false, short)], [long, short]);
        assert_eq!([patience(true, long), patience(true, short)], [CLONES_LAG, short]);
    }
}
