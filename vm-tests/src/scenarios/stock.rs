//! The harness itself: the same machine with systemd's own unlocker.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::uki::COMMAND_LINE;
use crate::volume::{Enroller, Userland};

/// One boot.
///
/// # Errors
/// When the root is not reached.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.uki(Unlocker::Systemd, false, COMMAND_LINE)?;
    let enrolled = lab.enrolled_by(Enroller::Systemd, &uki, Userland::Script)?;
    let disk = lab.disk("stock", Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = Boot::new(lab, "stock")?.disk(&disk).tpm(enrolled.tpm()).run()?;
    println!("{:?}", outcome.tpm.as_ref().map(|t| t.counts()));
    outcome.reached_real_root()?;
    disk.discard()
}
