//! `unlock` and its dry run as shipped, in fake root directories: discovery, proof, report, the fallback to a
//! key broker.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "native")]
mod authentic;
#[cfg(feature = "native")]
mod budget;
#[cfg(feature = "native")]
mod cli;
mod discover;
#[cfg(feature = "native")]
mod explain;
#[cfg(feature = "native")]
mod fallback;
#[cfg(feature = "native")]
mod keyslots;
#[cfg(feature = "native")]
mod root_volume;
