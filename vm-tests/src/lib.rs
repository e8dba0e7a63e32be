//! Boots real machines and judges what happened in them by tools that are not ours.
//!
//! Tools and guest are Debian trees built by mmdebstrap, so the host's distribution does not
//! matter. Every artefact is cached by content; a second run builds nothing.

pub mod artefacts;
pub mod bench;
pub mod encoding;
#[path = "../../tests/support/forge.rs"]
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    missing_debug_implementations,
    reason = "also the workbench of the black-box tests, which is blunt"
)]
pub mod forge;
pub mod judges;
pub mod lab;
pub mod machine;
pub mod network;
pub mod progress;
pub mod runner;
pub mod scenario;
pub mod scenarios;
