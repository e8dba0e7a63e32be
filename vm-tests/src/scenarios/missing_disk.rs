//! Attack: the host never attaches the disk, and waits for a shell or a prompt.

use anyhow::Result;

use crate::artefacts::filesystem::Userland;
use crate::lab::Lab;

/// A direct boot without a disk.
///
/// # Errors
/// When it ends in another way than a power-off.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let outcome = lab.boot()?.direct(&uki).tpm(enrolled.tpm()).run()?;
    outcome
        .powered_off_without_asking()?
        .refused_with("root-not-found")?
        .unsealed_nothing()?
        .fenced_after_failure()?;
    Ok(())
}
