//! GUIDs, and values of EFI variables.

pub mod efivar;
pub mod guid;
