//! Clouds attach disks late: a root on a disk that appears long after the kernel started opens.

use std::time::Duration;

use anyhow::Result;

use crate::artefacts::filesystem::Userland;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// A direct boot, as there is no disk yet to boot from; then the disk is plugged in.
///
/// # Errors
/// When the root is not reached.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(None, &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.direct(&uki).late_disk(&disk, LATE).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    disk.discard()
}

/// After the kernel started its first process: our unit waits by then.
const LATE: Duration = Duration::from_secs(20);
