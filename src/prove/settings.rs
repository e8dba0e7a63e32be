//! Which volumes may open, and what proves that one is ours: the measured configuration's part of the proof.

use serde::{Deserialize, Serialize};

use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::owner_key::PublicKey;

/// What a volume has to show before it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The volume must prove that it is ours, by what `authentic` names.
    pub require_authentic: bool,
    /// The keyslot's metadata must be bound to the sealed secret.
    pub require_binding: bool,
    /// The sealed secret's policy must contain PCR 15, so that it cannot be unsealed twice in a boot.
    pub require_fence: bool,
    /// Tokens without any policy may open the volume.
    pub allow_unbound: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { require_authentic: true, require_binding: true, require_fence: true, allow_unbound: false }
    }
}

/// Proofs of authenticity: one of them suffices. A volume that its host made has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authentic {
    /// Volumes by their volume key's digest, 64 hexadecimal digits each.
    pub volume_keys: Vec<VolumeKeyDigest>,
    /// Public keys of the owner, PEM text each: they vouch for a keyslot by a signature in its token.
    pub owner_keys: Vec<PublicKey>,
    /// Whether a key broker vouches for the volumes whose keys it releases. Without it, they need one of the other proofs, too.
    pub key_broker: bool,
}

impl Default for Authentic {
    fn default() -> Self {
        Self { volume_keys: Vec::new(), owner_keys: Vec::new(), key_broker: true }
    }
}

/// What a volume is measured by.
#[derive(Clone, Copy, Debug)]
pub struct ProofRules<'a> {
    /// What may be missing.
    pub policy: &'a Policy,
    /// Who can vouch for a volume.
    pub trusted: &'a Authentic,
}
