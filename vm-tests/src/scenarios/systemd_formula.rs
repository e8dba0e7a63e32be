//! PCR 15 names the running root by systemd's formula: a remote verifier, or a later stage's policy, cannot
//! tell which of the two unlockers opened it.

use anyhow::{Result, ensure};

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::artefacts::recipe::Unlocker;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// The same volume, opened once by systemd-cryptsetup and once by us.
///
/// # Errors
/// When the values differ.
pub fn run(lab: &Lab) -> Result<()> {
    let systemd = boot(&lab.part("systemd"), Unlocker::Systemd, Enroller::Systemd)?;
    let ours = boot(lab, Unlocker::CvmUnlock, Enroller::CvmUnlock)?;
    let (theirs, our) = (systemd.evidence()?.pcr("pcrs", 15)?, ours.evidence()?.pcr("pcrs", 15)?);
    ensure!(our == theirs, "PCR 15 is {our} after us, {theirs} after systemd-cryptsetup");
    Ok(())
}

fn boot(lab: &Lab, unlocker: Unlocker, enroller: Enroller) -> Result<Outcome> {
    let uki = lab.image().unlocker(unlocker).uki()?;
    let enrolled = lab.enrolled_by(enroller, &uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?)?;
    disk.discard()?;
    Ok(outcome)
}
