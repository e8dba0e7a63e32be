//! Remote attestation: the client, its evidence, and the documented policies of a key broker.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "native")]
mod client;
#[cfg(feature = "native")]
mod evidence;
mod policies;
