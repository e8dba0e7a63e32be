//! A Secure Boot UKI without `root=` reaches the PID 1 of its encrypted root, and nobody is asked.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::lab::Lab;
use crate::volume::Userland;

/// One boot.
///
/// # Errors
/// When the root is not reached.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk("demo", Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = Boot::new(lab, "demo")?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    disk.discard()
}

/// The same, told to a person.
///
/// # Errors
/// When the root is not reached.
pub fn narrated(lab: &Lab) -> Result<()> {
    run(lab)
}
