//! A token of systemd-cryptenroll opens for an image that asks for it, and for no other: such a token is
//! neither bound nor signed, and its policy leaves out PCR 15.

use anyhow::Result;

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::artefacts::owner::Trust;
use crate::artefacts::uki::Uki;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// The image that opts in, then the one that does not.
///
/// # Errors
/// When the first does not open the volume, or the second does.
pub fn run(lab: &Lab) -> Result<()> {
    let lenient = lab.image().trusting(Trust::Anybody).uki()?;
    boot(lab, &lenient, |outcome| outcome.reached_real_root().map(drop))?;
    let strict = lab.image().uki()?;
    boot(&lab.part("strict"), &strict, |outcome| {
        outcome.powered_off_without_asking()?.refused_with("fence-ineffective")?.unsealed_nothing().map(drop)
    })
}

fn boot(lab: &Lab, uki: &Uki, judge: impl FnOnce(&Outcome) -> Result<()>) -> Result<()> {
    let enrolled = lab.enrolled_by(Enroller::Systemd, uki, Userland::Script)?;
    let disk = lab.disk(Some(uki), &Root::Encrypted(enrolled.clone()))?;
    judge(&lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?)?;
    disk.discard()
}
