//! Attack: the host replaces the encrypted root on the boot disk by its own file system, with the right
//! partition type. It must not be mounted, let alone run.

use anyhow::Result;

use crate::artefacts::filesystem::Userland;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// One boot, with the genuine UKI and TPM.
///
/// # Errors
/// When the file system is used, or the refusal has another reason.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Plain(lab.filesystem(Userland::Script)?))?;
    let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome
        .powered_off_without_asking()?
        .refused_with("luks-magic")?
        .unsealed_nothing()?
        .fenced_after_failure()?;
    disk.discard()
}
