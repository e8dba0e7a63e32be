//! The usual way on TDX and SNP: the host hands the UKI to the firmware. No loader variable names
//! a boot disk, so every disk is a candidate, and the volume itself proves which one it is.

use anyhow::{Result, ensure};

use crate::boot::Boot;
use crate::disk::Root;
use crate::lab::Lab;
use crate::volume::Userland;

/// One boot.
///
/// # Errors
/// When the root is not reached, or a loader variable was there after all.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk("direct-boot", None, &Root::Encrypted(enrolled.clone()))?;
    let outcome = Boot::new(lab, "direct-boot")?.direct(&uki).disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    let variables = outcome.evidence()?.text("efi-variables")?;
    ensure!(variables.contains("SecureBoot-"), "The guest shows no EFI variables:\n{variables}");
    ensure!(!variables.contains("LoaderDevicePartUUID"), "The boot disk is named by a variable");
    disk.discard()
}
