//! What systemd-cryptenroll wrote opens for an image that asks for it, and for no other: such a token
//! is neither bound nor signed, and says nothing about PCR 15.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::Enroller;
use crate::lab::Lab;
use crate::uki::Uki;
use crate::volume::Userland;

/// The image that opts in, then the one that does not.
///
/// # Errors
/// When the first does not open the volume, or the second does.
pub fn run(lab: &Lab) -> Result<()> {
    let lenient = lab.lenient_uki()?;
    boot(lab, &lenient, "systemds-token", |outcome| outcome.reached_real_root().map(drop))?;
    let strict = lab.product_uki()?;
    boot(lab, &strict, "systemds-token-strict", |outcome| {
        outcome.powered_off_without_asking()?.refused_with("fence-ineffective")?.unsealed_nothing().map(drop)
    })
}

fn boot(
    lab: &Lab,
    uki: &Uki,
    name: &str,
    judge: impl FnOnce(&crate::outcome::Outcome) -> Result<()>,
) -> Result<()> {
    let enrolled = lab.enrolled_by(Enroller::Systemd, uki, Userland::Script)?;
    let disk = lab.disk(name, Some(uki), &Root::Encrypted(enrolled.clone()))?;
    judge(&Boot::new(lab, name)?.disk(&disk).tpm(enrolled.tpm()).run()?)?;
    disk.discard()
}
