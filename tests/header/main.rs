//! LUKS2 headers: what cryptsetup makes is understood, and what an attacker makes of it is refused.
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
