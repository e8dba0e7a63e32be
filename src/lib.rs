//! Unlocks the disk of a confidential VM: early in boot, unattended, on a host that nobody trusts.
//!
//! One pipeline, one trust rule: the host may lie about everything except what the TPM, the CPU or our own
//! measured initramfs vouches for. Discovery proposes; cryptography decides.
//!
//! ```text
//!         hostile bytes                     secrets                    kernel
//!   discover ──▶ luks ──▶ unseal ──▶ verify ──▶ fence ──▶ activate ──▶ publish ──▶ report
//!   Candidate   Snapshot  Unsealed   Verified   Fenced    Mapped       Published   Report
//! ```
//!
//! Beside `unseal` stands `attest`: a key from a key broker, where the TPM gives none. Only then is there a `network`.
//!
//! Each stage consumes the value of the one before; skipping a stage does not compile. A stage never imports a
//! later one.

pub mod attest;
pub mod base;
pub mod config;
pub mod discover;
pub mod fence;
pub mod format;
pub mod network;
pub mod policy;
pub mod prove;
pub mod report;
pub mod sys;
pub mod tpm;
pub mod unseal;

#[cfg(feature = "native")]
pub mod activate;
#[cfg(feature = "native")]
pub mod boot;
#[cfg(feature = "native")]
pub mod cli;
#[cfg(feature = "native")]
pub mod cryptsetup;
#[cfg(feature = "native")]
pub mod provision;
