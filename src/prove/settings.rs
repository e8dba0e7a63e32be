//! The measured configuration's rules for proofs: which volumes may open, and what shows that a volume is
//! ours.

use serde::{Deserialize, Serialize};

use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::owner_key::PublicKey;

/// What a volume must prove before it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The volume must prove that it is ours, by one of the proofs in `authentic`.
    pub require_authentic: bool,
    /// The keyslot's metadata must be bound to the sealed secret.
    pub require_binding: bool,
    /// The sealed secret's policy must bind PCR 15, so that it cannot be unsealed twice in a boot.
    pub require_fence: bool,
    /// Tokens without any policy may open the volume.
    pub allow_unbound: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { require_authentic: true, require_binding: true, require_fence: true, allow_unbound: false }
    }
}

/// Proofs of authenticity, of which one is enough. A volume made by the host has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authentic {
    /// Volumes by their volume key's digest, 64 hexadecimal digits each.
    pub volume_keys: Vec<VolumeKeyDigest>,
    /// Public keys of the owner, each as PEM text. They vouch for a keyslot by a signature in its token.
    pub owner_keys: Vec<PublicKey>,
    /// Whether a key broker vouches for the volumes whose keys it releases. If not, they need one of the
    /// other proofs too.
    pub key_broker: bool,
}

impl Default for Authentic {
    fn default() -> Self {
        Self { volume_keys: Vec::new(), owner_keys: Vec::new(), key_broker: true }
    }
}

/// The rules to judge a volume by.
#[derive(Clone, Copy, Debug)]
pub struct ProofRules<'a> {
    /// Which proofs may be missing.
    pub policy: &'a Policy,
    /// Who can vouch for a volume.
    pub trusted: &'a Authentic,
}
