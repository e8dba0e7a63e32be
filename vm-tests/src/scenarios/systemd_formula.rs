//! PCR 15 says whose root is running, in systemd's own words: a remote verifier, or a policy of a
//! later stage, must not see which of the two unlockers was at work.

use anyhow::{Result, ensure};

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::Enroller;
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::outcome::Outcome;
use crate::uki::COMMAND_LINE;
use crate::volume::Userland;

/// The same volume, opened once by systemd-cryptsetup and once by us.
///
/// # Errors
/// When the values differ.
pub fn run(lab: &Lab) -> Result<()> {
    let systemd = boot(lab, Unlocker::Systemd, Enroller::Systemd, "systemd-formula-systemd")?;
    let ours = boot(lab, Unlocker::CvmUnlock, Enroller::CvmUnlock, "systemd-formula")?;
    let (theirs, our) = (systemd.evidence()?.pcr("pcrs", 15)?, ours.evidence()?.pcr("pcrs", 15)?);
    ensure!(our == theirs, "PCR 15 is {our} after us, {theirs} after systemd-cryptsetup");
    Ok(())
}

fn boot(lab: &Lab, unlocker: Unlocker, enroller: Enroller, name: &str) -> Result<Outcome> {
    let uki = lab.uki(unlocker, false, COMMAND_LINE)?;
    let enrolled = lab.enrolled_by(enroller, &uki, Userland::Script)?;
    let disk = lab.disk(name, Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = Boot::new(lab, name)?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement(&lab.tools)?)?;
    disk.discard()?;
    Ok(outcome)
}
