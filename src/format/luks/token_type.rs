//! The types of tokens that we read. Their content has to be strict JSON; tokens of all other types may hold anything.

/// systemd-cryptenroll's, for a TPM.
pub const SYSTEMD_TPM2: &str = "systemd-tpm2";
/// Our own: a key broker keeps the passphrase.
pub const KEY_BROKER: &str = "cvm-unlock-kbs";
/// All of them.
pub const ALL: [&str; 2] = [SYSTEMD_TPM2, KEY_BROKER];
