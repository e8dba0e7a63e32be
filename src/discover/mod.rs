//! discover.
pub mod efivar;
pub mod gpt;
#[cfg(test)]
#[path = "../../tests/support/gpt_disk.rs"]
#[expect(unreachable_pub, reason = "shared with the black-box tests")]
mod gpt_disk;
pub mod guid;
pub mod sector;
pub mod sysfs;
pub mod uevent;
