//! The TPM: its byte formats (pure, no C library) and, behind a trait, its verbs.

pub mod blob;
pub mod srk;
pub mod wire;
