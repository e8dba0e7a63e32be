//! Attestation.

pub mod protocol;
