//! The way back: volumes that we enrolled, by value and by signature, open with the distribution's
//! systemd-cryptsetup.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::{Enrolled, Enroller};
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::policy::Policy;
use crate::uki::{COMMAND_LINE, Uki};
use crate::volume::Userland;

/// Two boots of images without any of our files: our token with a literal policy, then one with a signed policy,
/// which has PCR 15 by value beside it.
///
/// # Errors
/// When a root does not open.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.uki(Unlocker::Systemd, false, COMMAND_LINE)?;
    let enrolled = lab.enrolled_by(Enroller::CvmUnlock, &uki, Userland::Script)?;
    boot(lab, "opened-by-systemd", &uki, &enrolled)?;

    let key = lab.policy_key("ours")?;
    let uki = lab.signed_uki(&lab.initramfs(Unlocker::Systemd, false)?, COMMAND_LINE, &key)?;
    let policy = Policy::literal(format!("7:sha256={}", lab.pcr7()?)).and_signed(&key);
    let enrolled = lab.enrolled_to(Enroller::CvmUnlock, &policy, Userland::Script)?;
    boot(lab, "opened-by-systemd-signed", &uki, &enrolled)
}

fn boot(lab: &Lab, name: &str, uki: &Uki, enrolled: &Enrolled) -> Result<()> {
    let disk = lab.disk(name, Some(uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = Boot::new(lab, name)?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement(&lab.tools)?)?;
    disk.discard()
}
