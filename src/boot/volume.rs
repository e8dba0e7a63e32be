//! A candidate for the root volume with its header, and the tokens and PCRs of candidates.

use crate::base::error::{Error, chain};
use crate::base::warning::Warning;
use crate::discover::Candidate;
use crate::format::luks::Snapshot;
use crate::format::token::systemd_tpm2::Token;
use crate::policy;
use crate::policy::State;
use crate::report::{Report, VolumeReport};
use crate::tpm::Tpm;

/// A candidate with its header, or why the header is refused.
pub(super) struct Volume {
    pub(super) candidate: Candidate,
    pub(super) snapshot: Result<Snapshot, Error>,
}

/// The report's description of a candidate.
pub(super) fn described(candidate: &Candidate) -> VolumeReport {
    VolumeReport {
        device: candidate.path.display().to_string(),
        partition_uuid: Some(candidate.part_uuid.to_string()),
        ..VolumeReport::default()
    }
}

/// The TPM's tokens of all readable snapshots. Unreadable ones are ignored here.
pub(super) fn tokens<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> Vec<Token> {
    let all = snapshots.flat_map(|snapshot| snapshot.tokens());
    all.filter_map(|(id, value)| Token::parse(*id, value).ok()).collect()
}

/// Records the values of all PCRs that `tokens` bind, before anything is unsealed. In the booted system they
/// show whether a token would open again.
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
