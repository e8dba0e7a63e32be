//! Attack: the host replaces the UKI by another one that Secure Boot accepts as well (an older
//! release, a debug image). PCR 11 differs, so the TPM gives nothing; the boot ends, fenced.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::uki::COMMAND_LINE;
use crate::volume::Userland;

/// The attack, then the same volume with the UKI that it was enrolled for.
///
/// # Errors
/// When the attack succeeds, or the control does not.
pub fn run(lab: &Lab) -> Result<()> {
    let ours = lab.product_uki()?;
    let other = lab.uki(Unlocker::CvmUnlock, false, &format!("{COMMAND_LINE} systemd.debug_shell=ttyS0"))?;
    let enrolled = lab.enrolled(&ours, Userland::Script)?;
    let root = Root::Encrypted(enrolled.clone());

    let attacked = lab.disk("other-command-line", Some(&other), &root)?;
    let outcome = Boot::new(lab, "other-command-line")?.disk(&attacked).tpm(enrolled.tpm()).run()?;
    outcome
        .powered_off_without_asking()?
        .refused_with("pcr-mismatch")?
        .unsealed_nothing()?
        .fenced_after_failure()?;
    attacked.discard()?;

    let control = lab.disk("other-command-line-control", Some(&ours), &root)?;
    let outcome = Boot::new(lab, "other-command-line-control")?.disk(&control).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    control.discard()
}
