//! The key below which an object is sealed.

use super::srk::Srk;
use super::template::PrimaryAlg;

/// The key below which an object is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// A persistent key, as the token describes it: a consistency check against the TPM's, never a pin.
    Persistent(Srk),
    /// The primary key that systemd derived at each use, before it had a storage root key (up to v253).
    Legacy(PrimaryAlg),
}
