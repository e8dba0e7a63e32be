//! Provisioning: what changes a volume. Run by administrators and image builders, never on the unlock path.

pub mod enroll;
mod metadata;
mod target;

pub use metadata::MetadataError;
pub use target::TargetError;
