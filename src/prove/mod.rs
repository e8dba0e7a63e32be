//! Proves that a released key belongs to this volume, and that the volume is the one that was enrolled.

pub mod authentic;
#[cfg(feature = "native")]
mod error;
#[cfg(feature = "native")]
mod judge;
#[cfg(feature = "native")]
mod open;
pub mod settings;

#[cfg(feature = "native")]
pub use error::ProveError;
#[cfg(feature = "native")]
pub use judge::Proven;
#[cfg(feature = "native")]
pub(crate) use open::{Opening, check};
#[cfg(feature = "native")]
pub use open::{Verified, open, verify, verify_delivered};
