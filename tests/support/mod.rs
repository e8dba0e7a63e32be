//! The workbench of the black-box tests: other tools make what comes in and judge what went out. Each test executable takes
//! what it needs.
#![allow(dead_code, unreachable_pub, reason = "each test executable needs another part of the workbench")]

#[cfg(feature = "native")]
pub mod bench;
pub mod commands;
pub mod forge;
pub mod gpt_disk;
pub mod interposer;
pub mod kbs;
#[cfg(feature = "native")]
pub mod library;
#[cfg(feature = "native")]
pub mod machine;
pub mod snapshot;
pub mod swtpm;
#[cfg(feature = "native")]
pub mod systemd;
#[cfg(feature = "native")]
pub mod target;
#[cfg(feature = "native")]
pub mod tools;
pub mod tree;
pub mod volumes;
