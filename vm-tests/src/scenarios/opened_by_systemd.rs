//! Nobody is locked in: volumes that we enrolled, by value and by signature, open with the distribution's
//! systemd-cryptsetup.

use anyhow::Result;

use crate::artefacts::enrolled::{Enrolled, Enroller};
use crate::artefacts::filesystem::Userland;
use crate::artefacts::policy::Policy;
use crate::artefacts::recipe::Unlocker;
use crate::artefacts::uki::Uki;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// Two boots of images without any of our files: our token with a literal policy, then one with a signed
/// policy, which has PCR 15 by value beside it.
///
/// # Errors
/// When a root does not open.
pub fn run(lab: &Lab) -> Result<()> {
    let image = lab.image().unlocker(Unlocker::Systemd);
    let uki = image.uki()?;
    let enrolled = lab.enrolled_by(Enroller::CvmUnlock, &uki, Userland::Script)?;
    boot(lab, &uki, &enrolled)?;

    let key = lab.policy_key("ours")?;
    let uki = image.signed_by(&key).uki()?;
    let policy = Policy::literal(format!("7:sha256={}", lab.pcr7()?)).and_signed(&key);
    let enrolled = lab.enrolled_to(Enroller::CvmUnlock, &policy, Userland::Script)?;
    boot(&lab.part("signed"), &uki, &enrolled)
}

fn boot(lab: &Lab, uki: &Uki, enrolled: &Enrolled) -> Result<()> {
    let disk = lab.disk(Some(uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?)?;
    disk.discard()
}
