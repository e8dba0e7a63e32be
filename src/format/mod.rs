//! Parsers and writers of foreign formats.
//!
//! Everything here is pure, imports only [`crate::base`], and treats its input as untrusted: bounded, without
//! indexing and without panics. Each parser has a fuzz target. Other modules decide what a value proves.

pub mod efi;
pub mod gpt;
pub mod luks;
pub mod owner_key;
pub mod pcr_signature;
pub mod token;
pub mod tpm2;
