//! Secrets: bytes that are zeroised on drop and cannot be printed, compared carelessly or serialised.
//!
//! The process locks all of its memory before the first secret exists (`sys::memory::lock`), so that no page of
//! it reaches a swap device; this type adds that no copy outlives its use.

use zeroize::Zeroizing;

/// Secret bytes. No `Debug`, no `Display`, no `Clone`: a copy has to be asked for by name.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over `bytes`; the caller's buffer becomes ours and is zeroised with us.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Copies `bytes`, which somebody else owns and has to clear.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }

    /// The bytes, for the one call that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The volume key of a LUKS2 volume: the key of the dm-crypt mapping itself (XTS: 32 or 64 bytes).
pub struct VolumeKey(Secret);

impl VolumeKey {
    /// Takes over the key that opened the volume's digest.
    #[must_use]
    pub fn new(key: Secret) -> Self {
        Self(key)
    }

    /// The key bytes, for the one call that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}
