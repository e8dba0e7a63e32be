//! Attack: the host never attaches the disk, and waits for a shell or a prompt.

use anyhow::Result;

use crate::boot::Boot;
use crate::lab::Lab;
use crate::volume::Userland;

/// A direct boot without a disk.
///
/// # Errors
/// When it ends in another way than a power-off.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let outcome = Boot::new(lab, "missing-disk")?.direct(&uki).tpm(enrolled.tpm()).run()?;
    outcome
        .powered_off_without_asking()?
        .refused_with("root-not-found")?
        .unsealed_nothing()?
        .fenced_after_failure()?;
    Ok(())
}
