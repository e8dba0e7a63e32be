//! The usual boot on TDX and SNP: the host hands the UKI to the firmware. No loader variable names a boot
//! disk, so every disk is a candidate, and the volume's proof decides.

use anyhow::{Result, ensure};

use crate::artefacts::filesystem::Userland;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// One boot.
///
/// # Errors
/// When the root is not reached, or a loader variable was there after all.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(None, &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.direct(&uki).disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    let variables = outcome.evidence()?.text("efi-variables")?;
    ensure!(variables.contains("SecureBoot-"), "The guest shows no EFI variables:\n{variables}");
    ensure!(!variables.contains("LoaderDevicePartUUID"), "The boot disk is named by a variable");
    disk.discard()
}
