//! The system that starts from the unlocked root finds nothing unusual: systemd reaches multi-user.target,
//! udev's links are there, the device unit is active.

use anyhow::Result;

use crate::artefacts::filesystem::Userland;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// One boot.
///
/// # Errors
/// When multi-user.target is not reached, or a link is missing.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Systemd)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?.reached_multi_user()?;
    disk.discard()
}
