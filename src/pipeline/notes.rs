//! What the stages learn, on its way into the report: candidates, tokens and PCR values come in, members of the report
//! go out.

use super::search::Trial;
use crate::base::error::{Error, Failure};
use crate::base::hex;
use crate::base::warning::Warning;
use crate::discover::{Candidate, Candidates};
use crate::format::luks::Snapshot;
use crate::format::token::TokenError;
use crate::format::token::systemd_tpm2::Token;
use crate::policy;
use crate::policy::State;
use crate::policy::mismatch::Mismatch;
use crate::report::{PcrReport, RefusedVolume, Report, TokenReport, VolumeReport};
use crate::tpm::Tpm;
use crate::unseal::{Reason, Skipped, Tokens};

/// The tokens of all snapshots that can be read; of the others nobody asks anything yet.
pub(super) fn tokens<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> Vec<Token> {
    let all = snapshots.flat_map(|snapshot| snapshot.tokens());
    all.filter_map(|(id, value)| Token::parse(*id, value).ok()).collect()
}

/// Notes the values of all PCRs that `tokens` are about, as they are before anything is unsealed: in the booted system
/// they tell whether a token would open again.
pub(super) fn record(tokens: &[Token], state: &mut State, tpm: &mut dyn Tpm, report: &mut Report) {
    for token in tokens {
        let (bank, pcrs) = policy::concerns(token, &state.active);
        if state.active.contains(&bank)
            && let Err(error) = state.readings.ensure(tpm, bank, pcrs)
        {
            report.warn(Warning::new("pcrs-not-recorded", crate::base::error::chain(&error)));
        }
    }
    report.record(&state.readings);
}

/// Notes why tokens gave no secret. Those of another type (a recovery key's, a key broker's) are not the TPM's to open.
pub(super) fn refuse(tokens: &Tokens<'_>, report: &mut Report) {
    let other = |skipped: &&Skipped| matches!(skipped.reason, Reason::Token(TokenError::OtherType));
    for skipped in tokens.skipped().iter().filter(|skipped| !other(skipped)) {
        let mut token = TokenReport::new(skipped.token, skipped.reason.slug(), skipped.text());
        let differences = skipped.mismatch.iter().flat_map(Mismatch::differences);
        token.pcrs = differences
            .map(|difference| PcrReport {
                pcr: difference.pcr.number(),
                enrolled: hex::encode(&difference.enrolled),
                now: hex::encode(&difference.now),
            })
            .collect();
        report.refused_tokens.push(token);
    }
}

/// Says whose tokens those are that were refused after the first `before`.
pub(super) fn of_volume(volume: &VolumeReport, before: usize, report: &mut Report) {
    for token in report.refused_tokens.iter_mut().skip(before) {
        token.device.clone_from(&volume.device);
    }
}

pub(super) fn described(candidate: &Candidate) -> VolumeReport {
    VolumeReport {
        device: candidate.path.display().to_string(),
        partition_uuid: Some(candidate.part_uuid.to_string()),
        ..VolumeReport::default()
    }
}

pub(super) fn note(found: &Candidates, report: &mut Report) {
    for note in &found.notes {
        let warning = Warning::new(note.slug(), note.to_string());
        // A later look finds much as it was.
        if !report.warnings.contains(&warning) {
            report.warn(warning);
        }
    }
}

/// Notes why a volume is not our root volume.
pub(super) fn refuse_volume(volume: VolumeReport, error: Error, trial: &mut Trial<'_>, report: &mut Report) {
    log::warn!("{} is not our root volume: {} [{}]", volume.device, error.chain(), error.slug());
    report.refused_volumes.push(RefusedVolume::new(&volume, &error));
    trial.refuse(error, volume);
}
