//! Tools for the black-box tests: independent programs make the input and judge the output.
#![allow(dead_code, unreachable_pub, reason = "each test executable needs another part of the workbench")]

pub mod commands;
pub mod encoding;
#[cfg(feature = "native")]
pub mod executable;
pub mod forge;
pub mod gpt_disk;
#[cfg(feature = "native")]
pub mod image;
pub mod interposer;
pub mod kbs;
#[cfg(feature = "native")]
pub mod library;
#[cfg(feature = "native")]
pub mod machine;
pub mod owner;
pub mod port;
pub mod snapshot;
pub mod swtpm;
#[cfg(feature = "native")]
pub mod systemd;
#[cfg(feature = "native")]
pub mod target;
pub mod tool;
#[cfg(feature = "native")]
pub mod tools;
pub mod tree;
pub mod volumes;
