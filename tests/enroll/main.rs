//! `enroll`, `bind` and `inspect` as shipped, on image files.
#![cfg(test)]
#![cfg(feature = "native")]

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod inspect;
mod key_broker;
mod keyslots;
mod tpm;
