//! Attack: the host replaces the encrypted root by a file system of its own, on the boot disk,
//! with the right partition type. It must not be mounted, let alone run.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::lab::Lab;
use crate::volume::Userland;

/// One boot, with the genuine UKI and TPM.
///
/// # Errors
/// When the file system is used, or the refusal has another reason.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk("plain-root", Some(&uki), &Root::Plain(lab.filesystem(Userland::Script)?))?;
    let outcome = Boot::new(lab, "plain-root")?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome
        .powered_off_without_asking()?
        .refused_with("luks-magic")?
        .unsealed_nothing()?
        .fenced_after_failure()?;
    disk.discard()
}
