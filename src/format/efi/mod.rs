//! EFI's GUIDs, and values of its variables.

pub mod efivar;
pub mod guid;
