//! The emulated machine: its disks, its control channel, one boot of it.

pub mod boot;
pub mod disk;
pub mod nbd;
pub mod parts;
pub mod qemu;
pub mod qmp;
pub mod recorder;
