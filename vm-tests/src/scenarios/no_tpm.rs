//! Attack: the host takes the TPM away, hoping for a fallback.

use anyhow::Result;

use crate::artefacts::filesystem::Userland;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// One boot without a TPM.
///
/// # Errors
/// When the machine ends in another way.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled))?;
    let outcome = lab.boot()?.disk(&disk).run()?;
    outcome.powered_off_without_asking()?.refused_with("tpm-absent")?;
    disk.discard()
}
