//! Formats: bytes that somebody else wrote become typed values, and typed values become bytes.
//!
//! Everything here is pure, imports nothing but [`crate::base`], and treats its input as hostile: bounded, without
//! indexing and without panics. Each parser has a fuzz target. What a value proves is decided elsewhere.

pub mod efi;
pub mod gpt;
pub mod luks;
pub mod owner_key;
pub mod pcr_signature;
pub mod token;
pub mod tpm2;
