//! Secret bytes, zeroised on drop, which cannot be printed, serialised or compared by accident.
//!
//! The process locks all of its memory before the first secret exists (`sys::memory::lock`), so that no page
//! of it reaches a swap device. This type makes sure that no copy outlives its use.

use zeroize::Zeroizing;

/// Secret bytes. No `Debug`, no `Display`, no `Clone`: copying takes an explicit call.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of `bytes`; the buffer is zeroised on drop.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Copies `bytes`, whose owner remains responsible for clearing them.
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

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The volume key of a LUKS2 volume, which is the key of the dm-crypt mapping (XTS: 32 or 64 bytes).
pub struct VolumeKey(Secret);

impl VolumeKey {
    /// Wraps a key that matched the volume's digest.
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
