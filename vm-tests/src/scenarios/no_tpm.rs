//! Attack: the host takes the TPM away, hoping for a fallback.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::lab::Lab;
use crate::volume::Userland;

/// One boot without a TPM.
///
/// # Errors
/// When the machine ends in another way.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk("no-tpm", Some(&uki), &Root::Encrypted(enrolled))?;
    let outcome = Boot::new(lab, "no-tpm")?.disk(&disk).run()?;
    outcome.powered_off_without_asking()?.refused_with("tpm-absent")?;
    disk.discard()
}
