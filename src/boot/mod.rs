//! Runs all stages of a boot in order. Each stage takes the value of the one before, and records what it
//! learned in the report.
//!
//! ```text
//!   unlock ─▶ search ─▶ pick ─▶ attempt ─▶ key_source     dry_run ─▶ pick
//!             disks     volumes  one volume  TPM, key broker
//! ```

mod attempt;
mod broker;
mod budget;
mod dry_run;
mod error;
mod failure;
mod fallback;
mod given;
mod key_source;
mod machine;
mod pick;
mod search;
mod tpm_keys;
mod trial;
mod unlock;
mod volume;

pub use broker::BrokerError;
pub use error::SelectError;
pub use failure::fence_failure;
pub use machine::Machine;
