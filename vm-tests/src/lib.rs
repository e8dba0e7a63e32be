//! Boots real machines and judges what happened in them by tools that are not ours.
//!
//! Tools and guest are Debian trees built by mmdebstrap, so the host's distribution does not
//! matter. Every artefact is cached by content; a second run builds nothing.

pub mod bench;
pub mod boot;
pub mod broker;
pub mod cache;
pub mod disk;
pub mod enrolled;
pub mod evidence;
pub mod firmware;
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
pub mod forged;
pub mod format;
pub mod initramfs;
pub mod lab;
pub mod nameserver;
pub mod nbd;
pub mod net;
pub mod outcome;
pub mod owner;
pub mod pki;
pub mod policy;
pub mod progress;
pub mod qemu;
pub mod qmp;
pub mod remains;
pub mod scenario;
pub mod scenarios;
pub mod serial;
pub mod suite;
pub mod swtpm_log;
pub mod tokens;
pub mod tpm;
pub mod tree;
pub mod uki;
pub mod volume;
pub mod wire;
pub mod writer;

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits.
///
/// # Errors
/// When they are none.
pub fn unhex(digits: &str) -> anyhow::Result<Vec<u8>> {
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2));
    let bytes = pairs.map(|pair| pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    bytes.collect::<Option<_>>().ok_or_else(|| anyhow::anyhow!("Not hexadecimal: `{digits}`"))
}
