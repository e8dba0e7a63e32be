//! Attack: the host replaces the UKI by another one that Secure Boot accepts as well (an older release, a
//! debug image). PCR 11 differs, so the TPM does not unseal, and the boot ends fenced.

use anyhow::Result;

use crate::artefacts::filesystem::Userland;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// The attack, then the same volume with the UKI that it was enrolled for.
///
/// # Errors
/// When the attack succeeds, or the control does not.
pub fn run(lab: &Lab) -> Result<()> {
    let ours = lab.image().uki()?;
    let other = lab.image().appending("systemd.debug_shell=ttyS0").uki()?;
    let enrolled = lab.enrolled(&ours, Userland::Script)?;
    let root = Root::Encrypted(enrolled.clone());

    let attacked = lab.disk(Some(&other), &root)?;
    let outcome = lab.boot()?.disk(&attacked).tpm(enrolled.tpm()).run()?;
    outcome
        .powered_off_without_asking()?
        .refused_with("pcr-mismatch")?
        .unsealed_nothing()?
        .fenced_after_failure()?;
    attacked.discard()?;

    let lab = lab.part("control");
    let control = lab.disk(Some(&ours), &root)?;
    let outcome = lab.boot()?.disk(&control).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    control.discard()
}
