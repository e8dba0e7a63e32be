//! Tokens of LUKS2 headers: where a keyslot's passphrase comes from, and what the token claims to prove.

pub mod claims;
mod error;
pub mod key_broker;
pub mod passphrase;
mod prelude;
pub mod systemd_tpm2;

pub use error::TokenError;
