//! Attack: the host makes a volume of its own for this very TPM (its parent key is public), with a
//! key that it knows, and a policy that the guest satisfies. It unseals and its binding holds; what it
//! lacks is the owner's signature.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::Enroller;
use crate::lab::Lab;
use crate::volume::Userland;

/// The attack, then the owner's volume in the same image.
///
/// # Errors
/// When the attack succeeds, or the control does not.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let strangers = lab.enrolled_by(Enroller::Stranger, &uki, Userland::Script)?;
    let disk = lab.disk("strangers-volume", Some(&uki), &Root::Encrypted(strangers.clone()))?;
    let outcome = Boot::new(lab, "strangers-volume")?.disk(&disk).tpm(strangers.tpm()).run()?;
    outcome.powered_off_without_asking()?.refused_with("volume-unauthenticated")?.fenced_after_failure()?;
    disk.discard()?;

    let owners = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk("strangers-volume-control", Some(&uki), &Root::Encrypted(owners.clone()))?;
    let outcome = Boot::new(lab, "strangers-volume-control")?.disk(&disk).tpm(owners.tpm()).run()?;
    outcome.reached_real_root()?;
    disk.discard()
}
