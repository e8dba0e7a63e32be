//! Tries the secrets of one key source on one volume, until one proves the volume.

use super::given::Unproven;
use super::key_source::KeySource;
use crate::base::source::Source;
use crate::format::luks::Snapshot;
use crate::prove::Verified;
use crate::prove::settings::ProofRules;
use crate::report::{Account, TokenReport, VolumeReport};

/// How an attempt ended, and what it learned about the volume.
pub(super) struct Attempt {
    pub(super) account: Account,
    pub(super) outcome: Result<Verified, Unproven>,
}

impl Attempt {
    /// Nothing was tried: the volume was not admitted, or its key source is not available.
    pub(super) fn none(volume: VolumeReport, unproven: Unproven) -> Self {
        Self { account: Account::of(volume), outcome: Err(unproven) }
    }

    /// Tries the keys of `keys` on the volume.
    pub(super) fn run<S: Source + ?Sized>(
        volume: VolumeReport,
        (snapshot, source): (&Snapshot, &S),
        mut keys: KeySource<'_, '_, '_>,
        rules: ProofRules<'_>,
    ) -> Self {
        let mut account = Account::of(volume);
        let mut refusal: Option<Unproven> = None;
        while let Some(next) = keys.next(&mut account) {
            let proved = next.and_then(|given| {
                let prove = || given.prove(snapshot, source, rules);
                match account.stages.time("verify", prove) {
                    Ok(verified) => Ok((given, verified)),
                    Err(unproven) => Err((given.token(), unproven)),
                }
            });
            match proved {
                Ok((given, verified)) => {
                    given.note_opened(&mut account.volume);
                    account.volume.proven(&verified.proven);
                    keys.note_refused(&mut account);
                    verified.warnings.iter().cloned().for_each(|warning| account.warn(warning));
                    return Self { account, outcome: Ok(verified) };
                }
                Err((token, unproven)) => {
                    let Unproven { error, fallback } = &unproven;
                    account.refuse(TokenReport::new(token, error.slug(), error.chain()));
                    refusal = Some(match refusal {
                        Some(first) => first.and(*fallback),
                        None => unproven,
                    });
                }
            }
        }
        keys.note_refused(&mut account);
        Self { account, outcome: Err(keys.into_refusal(refusal)) }
    }
}
