//! A candidate for the root volume with its header, and what tokens and PCRs say about it.

use crate::base::error::{Error, chain};
use crate::base::warning::Warning;
use crate::discover::Candidate;
use crate::format::luks::Snapshot;
use crate::format::token::systemd_tpm2::Token;
use crate::policy;
use crate::policy::State;
use crate::report::{Report, VolumeReport};
use crate::tpm::Tpm;

/// A candidate and its header, or why it has none that we accept.
pub(super) struct Volume {
    pub(super) candidate: Candidate,
    pub(super) snapshot: Result<Snapshot, Error>,
}

/// What the report says about a candidate.
pub(super) fn described(candidate: &Candidate) -> VolumeReport {
    VolumeReport {
        device: candidate.path.display().to_string(),
        partition_uuid: Some(candidate.part_uuid.to_string()),
        ..VolumeReport::default()
    }
}

/// The TPM's tokens of all snapshots that can be read; of the others nobody asks anything yet.
pub(super) fn tokens<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> Vec<Token> {
    let all = snapshots.flat_map(|snapshot| snapshot.tokens());
    all.filter_map(|(id, value)| Token::parse(*id, value).ok()).collect()
}

/// Records the values of all PCRs that `tokens` are about, as they are before anything is unsealed: in the booted system
/// they tell whether a token would open again.
pub(super) fn record_pcrs(tokens: &[Token], state: &mut State, tpm: &mut dyn Tpm, report: &mut Report) {
    for token in tokens {
        let (bank, pcrs) = policy::concerns(token, &state.active);
        if state.active.contains(&bank)
            && let Err(error) = state.readings.ensure(tpm, bank, pcrs)
        {
            report.warn(Warning::new("pcrs-not-recorded", chain(&error)));
        }
    }
    report.record(&state.readings);
}
