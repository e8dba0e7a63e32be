//! LUKS2 headers: those of cryptsetup are accepted, an attacker's are refused.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "native")]
mod attacks;
#[cfg(feature = "native")]
mod edits;
mod forged;
mod luks;
mod mapping;
mod swapped;
#[cfg(feature = "native")]
mod tolerance;
