//! The way back: a volume that we enrolled opens with the distribution's systemd-cryptsetup.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::Enroller;
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::uki::COMMAND_LINE;
use crate::volume::Userland;

/// One boot of an image without any of our files.
///
/// # Errors
/// When the root does not open.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.uki(Unlocker::Systemd, false, COMMAND_LINE)?;
    let enrolled = lab.enrolled_by(Enroller::CvmUnlock, &uki, Userland::Script)?;
    let disk = lab.disk("opened-by-systemd", Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = Boot::new(lab, "opened-by-systemd")?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    disk.discard()
}
