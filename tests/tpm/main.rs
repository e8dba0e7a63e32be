//! The TPM stage against an emulated TPM: what opens, what is refused, and which commands are sent.
#![cfg(test)]
#![cfg(feature = "native")]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod policy_key;
mod seal;
mod signed;
mod unseal;
