//! Unlocks the root disk of a confidential VM: early in boot, unattended, on an untrusted host.
//!
//! One pipeline and one rule: trust only what the TPM, the CPU or our own measured initramfs vouches for.
//! Discovery proposes; cryptography decides.
//!
//! ```text
//!       untrusted bytes                      secrets                    kernel
//!   discover ──▶ luks ──▶ unseal ──▶ verify ──▶ fence ──▶ activate ──▶ publish ──▶ report
//!   Candidate   Snapshot  Unsealed   Verified   Fenced    Mapped       Published   Report
//! ```
//!
//! `attest` stands beside `unseal`: it gets a key from a key broker when the TPM releases none. Only then is
//! there a `network`.
//!
//! Each stage consumes the value of the one before, so that skipping a stage does not compile. A stage never
//! imports a later one.

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
