//! What a boot left behind, and sentences about it: by QEMU, by swtpm's log, by the distribution's tools in
//! the guest.

pub mod evidence;
pub mod outcome;
pub mod packets;
pub mod remains;
pub mod sentences;
pub mod serial;
pub mod swtpm_log;
