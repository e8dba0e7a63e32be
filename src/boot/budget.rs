//! What a boot spends at most, however many disks the host attaches.

use super::error::SelectError;
use super::volume::tokens;
use crate::format::luks::Snapshot;

/// What is left to spend.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: usize,
    keys: usize,
}

impl Budget {
    pub(super) const fn full() -> Self {
        Self { tokens: TOKENS_LIMIT, keys: KEYS_LIMIT }
    }

    /// Admits a volume with all its tokens, or not at all.
    pub(super) fn admit(&mut self, snapshot: &Snapshot) -> Result<(), SelectError> {
        let tokens = tokens(std::iter::once(snapshot)).len();
        self.tokens = self.tokens.checked_sub(tokens).ok_or(SelectError::TooManyTokens)?;
        Ok(())
    }

    /// One more key from a key broker; `false` if there have been enough.
    pub(super) fn ask_for_a_key(&mut self) -> bool {
        let left = self.keys.checked_sub(1);
        self.keys = left.unwrap_or(0);
        left.is_some()
    }
}

/// Tokens that one boot tries, over all volumes. Ours: a LUKS2 header has 32 at most, so that one full stranger does not keep
/// our own full volume from being tried; with a slow TPM that takes 0.5 s for each, 64 take half a minute.
const TOKENS_LIMIT: usize = 64;
/// Keys that one boot asks for, over all volumes: each costs a quote and three round trips. Ours: a few strangers' volumes do
/// not keep ours from being asked for.
const KEYS_LIMIT: usize = 8;
