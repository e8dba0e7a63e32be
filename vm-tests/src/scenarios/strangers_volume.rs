//! Attack: the host makes a volume for this very TPM (its parent key is public), with a key that it knows and
//! a policy that the guest satisfies. It unseals and its binding holds; only the owner's signature is
//! missing.

use anyhow::Result;

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// The attack, then the owner's volume in the same image.
///
/// # Errors
/// When the attack succeeds, or the control does not.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let strangers = lab.enrolled_by(Enroller::Stranger, &uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(strangers.clone()))?;
    let outcome = lab.boot()?.disk(&disk).tpm(strangers.tpm()).run()?;
    outcome.powered_off_without_asking()?.refused_with("volume-unauthenticated")?.fenced_after_failure()?;
    disk.discard()?;

    let lab = lab.part("control");
    let owners = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(owners.clone()))?;
    let outcome = lab.boot()?.disk(&disk).tpm(owners.tpm()).run()?;
    outcome.reached_real_root()?;
    disk.discard()
}
