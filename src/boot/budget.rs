//! Limits the work of a boot, however many disks the host attaches.

use super::error::SelectError;
use super::volume::tokens;
use crate::format::luks::Snapshot;

/// What is left of the limits.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: usize,
    keys: usize,
}

impl Budget {
    pub(super) const fn full() -> Self {
        Self { tokens: TOKENS_LIMIT, keys: KEYS_LIMIT }
    }

    /// Admits a volume with all its tokens, or refuses it.
    pub(super) fn admit(&mut self, snapshot: &Snapshot) -> Result<(), SelectError> {
        let tokens = tokens(std::iter::once(snapshot)).len();
        self.tokens = self.tokens.checked_sub(tokens).ok_or(SelectError::TooManyTokens)?;
        Ok(())
    }

    /// Takes one key request; `false` if none is left.
    pub(super) fn ask_for_a_key(&mut self) -> bool {
        let left = self.keys.checked_sub(1);
        self.keys = left.unwrap_or(0);
        left.is_some()
    }
}

/// Tokens that one boot tries, over all volumes. Our own limit: a LUKS2 header has at most 32, so one full
/// foreign volume does not keep our own full one from being tried. With a slow TPM at 0.5 s per token, 64
/// take half a minute.
const TOKENS_LIMIT: usize = 64;
/// Keys that one boot requests, over all volumes. Our own limit: each costs a quote and three round trips,
/// and a few foreign volumes do not keep ours from being tried.
const KEYS_LIMIT: usize = 8;
