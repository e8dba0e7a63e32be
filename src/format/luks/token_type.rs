//! The token types that we support. Their content must be strict JSON; tokens of other types may hold
//! anything.

/// systemd-cryptenroll's, for a TPM.
pub const SYSTEMD_TPM2: &str = "systemd-tpm2";
/// Our own: a key broker holds the passphrase.
pub const KEY_BROKER: &str = "cvm-unlock-kbs";
/// All of them.
pub const ALL: [&str; 2] = [SYSTEMD_TPM2, KEY_BROKER];
