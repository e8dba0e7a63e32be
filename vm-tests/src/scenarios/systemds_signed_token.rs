//! Signed policies of systemd-cryptenroll, alone and beside a PCR by value, open a root with the signature
//! that systemd-stub takes out of the UKI.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::Enroller;
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::owner::Trust;
use crate::policy::Policy;
use crate::uki::COMMAND_LINE;
use crate::volume::Userland;

/// PCR 11 signed; PCR 11 signed and PCR 7 by value.
///
/// # Errors
/// When one of them does not open the volume.
pub fn run(lab: &Lab) -> Result<()> {
    let key = lab.policy_key("ours")?;
    let initramfs = lab.initramfs_trusting(Trust::Anybody, Unlocker::CvmUnlock, false)?;
    let uki = lab.signed_uki(&initramfs, COMMAND_LINE, &key)?;
    let pcr7 = Policy::literal(format!("7:sha256={}", lab.pcr7()?));
    for (name, policy) in [
        ("systemds-signed-token", Policy::signed(&key)),
        ("systemds-signed-token-and-pcr-7", pcr7.and_signed(&key)),
    ] {
        let enrolled = lab.enrolled_to(Enroller::Systemd, &policy, Userland::Script)?;
        let disk = lab.disk(name, Some(&uki), &Root::Encrypted(enrolled.clone()))?;
        let outcome = Boot::new(lab, name)?.disk(&disk).tpm(enrolled.tpm()).run()?;
        outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement(&lab.tools)?)?;
        disk.discard()?;
    }
    Ok(())
}
