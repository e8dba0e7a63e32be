//! The unlocked root is an ordinary one for the system that starts from it: systemd reaches
//! multi-user.target, udev's links are there, the device unit is active.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::lab::Lab;
use crate::volume::Userland;

/// One boot.
///
/// # Errors
/// When multi-user.target is not reached, or a link is missing.
pub fn run(lab: &Lab) -> Result<()> {
    boot(lab, "full-userspace")
}

/// The same for any lab.
///
/// # Errors
/// The same.
pub fn boot(lab: &Lab, name: &str) -> Result<()> {
    let uki = lab.product_uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Systemd)?;
    let disk = lab.disk(name, Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = Boot::new(lab, name)?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?.reached_multi_user()?;
    disk.discard()
}
