//! Changes volumes: tools for administrators and image builders, never used on the unlock path.

pub mod bind;
pub mod broker_key;
pub mod danger;
pub mod enroll;
pub mod inspect;
mod metadata;
mod open;
pub mod recovery;
pub mod seal;
pub mod signing_key;
mod target;
mod transition;
pub mod wipe;

pub use metadata::MetadataError;
pub use open::{Key, OpenError};
pub use target::TargetError;
