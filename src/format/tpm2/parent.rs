//! The parent key of a sealed object.

use super::srk::Srk;
use super::template::PrimaryAlg;

/// The parent key of a sealed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// A persistent key as the token describes it. The description is a consistency check against the TPM's
    /// key, never a pin.
    Persistent(Srk),
    /// The primary key that systemd up to v253 derived at each use, before it had a storage root key.
    Legacy(PrimaryAlg),
}
