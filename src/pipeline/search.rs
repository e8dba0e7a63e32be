//! The search: disks come in as they appear, the one volume that proves itself goes out. The first disk need not be ours:
//! what is refused is remembered, and the wait for another one goes on: until the deadline, or, where the loader has said
//! which disk it is, for as long as a clone of that disk may take to appear beside it.
//!
//! Each step is paid for by the host's disks, so each is bounded: candidates by discovery, tokens here, time by the deadline
//! and, for key derivations, by the unit.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::attest::{KEYS_LIMIT, Outside};
use super::notes::{note, record, tokens};
use super::prove::{Judged, Proven};
use super::{Headed, Host, SelectError};
use crate::base::error::{Error, Failure};
use crate::discover::uevent::Wait;
use crate::discover::{Candidates, Discovery, Instance};
use crate::fence::Unfenced;
use crate::format::luks::Snapshot;
use crate::format::token::systemd_tpm2::{Kind, Token};
use crate::policy::State;
use crate::report::{Report, VolumeReport};
use crate::tpm::Tpm;

/// What it takes to put volumes to the proof, and what came of it so far.
pub(super) struct Trial<'a> {
    /// Nothing if the configuration waives the TPM.
    pub(super) chip: Option<Chip<'a>>,
    /// The way to the key brokers, once one was needed.
    pub(super) outside: Option<Outside>,
    /// The TPM will open nothing more, and vouches for nothing either.
    pub(super) hopeless: bool,
    /// No key broker will give a key any more. The TPM may still open a disk that comes later.
    pub(super) unanswered: bool,
    pub(super) keys_left: usize,
    tokens_left: usize,
    refusal: Option<(Error, VolumeReport)>,
}

/// A TPM in which PCR 15 was zero, and what is known of its PCRs.
pub(super) struct Chip<'a> {
    pub(super) tpm: &'a mut dyn Tpm,
    pub(super) unfenced: &'a Unfenced,
    pub(super) state: State,
}

impl<'a> Trial<'a> {
    pub(super) const fn new(chip: Option<Chip<'a>>) -> Self {
        Self {
            chip,
            outside: None,
            hopeless: false,
            unanswered: false,
            keys_left: KEYS_LIMIT,
            tokens_left: TOKENS_LIMIT,
            refusal: None,
        }
    }

    /// Admits a volume with all its tokens, or not at all.
    pub(super) fn admit(&mut self, snapshot: &Snapshot) -> Result<(), SelectError> {
        let tokens = tokens(std::iter::once(snapshot)).len();
        self.tokens_left = self.tokens_left.checked_sub(tokens).ok_or(SelectError::TooManyTokens)?;
        Ok(())
    }

    /// Nobody will open anything: no other disk is worth a wait.
    const fn is_over(&self) -> bool {
        self.hopeless || (self.chip.is_none() && self.unanswered)
    }

    /// Remembers the first refusal: it is the one that is reported.
    pub(super) fn refuse(&mut self, error: Error, volume: VolumeReport) {
        self.refusal.get_or_insert((error, volume));
    }

    /// The end without a volume.
    pub(super) fn into_error(self, report: &mut Report) -> Error {
        let Some((error, volume)) = self.refusal else { return SelectError::None.into() };
        report.volume = Some(volume);
        error
    }
}

/// Volumes that were there at one look, and whether they are all that the loader's disk has.
pub(super) struct Round {
    candidates: Vec<Headed>,
    is_loaders: bool,
}

impl Round {
    /// The tokens of all headers that can be read.
    pub(super) fn tokens(&self) -> Vec<Token> {
        tokens(self.candidates.iter().filter_map(|(_, snapshot)| snapshot.as_ref().ok()))
    }
}

impl Host<'_> {
    /// Reads the headers of what was found.
    pub(super) fn round(&self, found: Candidates, report: &mut Report) -> Round {
        note(&found, report);
        let is_loaders = found.are_the_loaders();
        Round { candidates: self.read_headers(found.candidates, report), is_loaders }
    }

    /// Proves the candidates of `round`; if none is ours, those that appear until the deadline, which counts from `start`.
    ///
    /// # Errors
    /// The first refusal, or [`SelectError::Several`].
    pub(super) fn search<W: Wait>(
        &self,
        discovery: &Discovery<W>,
        start: Instant,
        mut round: Round,
        mut trial: Trial<'_>,
        report: &mut Report,
    ) -> Result<Proven, Error> {
        let deadline = self.config.device_timeout_seconds.duration();
        let mut tried = BTreeSet::<Instance>::new();
        loop {
            tried.extend(round.candidates.iter().map(|(candidate, _)| candidate.instance));
            let Judged { proven, undecided } = self.prove_one(round.candidates, &mut trial, report)?;
            let proven = match proven {
                Some(proven) => {
                    undecided.into_iter().for_each(|undecided| undecided.refuse(&mut trial, report));
                    Some(proven)
                }
                None => self.attest(undecided, &mut trial, report)?,
            };
            if let Some(proven) = proven {
                return Ok(proven);
            }
            if trial.is_over() {
                return Err(trial.into_error(report));
            }
            let left = patience(round.is_loaders, deadline.saturating_sub(start.elapsed()));
            log::info!("Waiting for another disk, {} s at most", left.as_secs());
            let found = match report.stage("discover", |_| discovery.find_beyond(&tried, left)) {
                Ok(found) => found,
                Err(error) => {
                    log::info!("{} [{}]", crate::base::error::chain(&error), error.slug());
                    return Err(trial.into_error(report));
                }
            };
            round = self.round(found, report);
            self.learn(&round.tokens(), &mut trial, report)?;
        }
    }

    /// What tokens that come later ask for beyond what is known.
    fn learn(&self, tokens: &[Token], trial: &mut Trial<'_>, report: &mut Report) -> Result<(), Error> {
        let Some(chip) = &mut trial.chip else { return Ok(()) };
        if tokens.iter().any(|token| token.kind() == Kind::Signed) {
            chip.state.signatures = self.signatures(tokens, report)?;
        }
        record(tokens, &mut chip.state, chip.tpm, report);
        Ok(())
    }
}

/// How long another disk is waited for when what is there was refused, and `left` remains until the deadline.
fn patience(is_loaders: bool, left: Duration) -> Duration {
    if is_loaders { left.min(CLONES_LAG) } else { left }
}

/// Two disks with the partition that the loader was started from appear one after the other, and the first may be the host's
/// copy. Ours: ten times what the drivers of two disks take in an emulated machine.
const CLONES_LAG: Duration = Duration::from_secs(10);
/// Tokens that one boot tries, over all volumes. Ours: a LUKS2 header has 32 at most, so that one full stranger does not keep
/// our own full volume from being tried; with a slow TPM that takes 0.5 s for each, 64 take half a minute.
const TOKENS_LIMIT: usize = 64;

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
