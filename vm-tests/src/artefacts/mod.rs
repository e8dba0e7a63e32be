//! Everything that is built once and cached by its content: trees, keys, images, volumes.

pub mod addresses;
pub mod cache;
pub mod enrolled;
pub mod filesystem;
pub mod firmware;
pub mod forged;
pub mod format;
pub mod growth;
pub mod image;
pub mod initramfs;
pub mod owner;
pub mod pki;
pub mod policy;
pub mod product;
pub mod recipe;
pub mod suite;
pub mod tokens;
pub mod tpm;
pub mod tree;
pub mod uki;
pub mod volume;
pub mod workbench;
pub mod writer;
