//! Cloud disks are attached when they are attached: one that comes long after the kernel opens.

use std::time::Duration;

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::lab::Lab;
use crate::volume::Userland;

/// A direct boot, as the firmware needs a disk to boot from otherwise; then the disk is plugged in.
///
/// # Errors
/// When the root is not reached.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk("late-disk", None, &Root::Encrypted(enrolled.clone()))?;
    let outcome =
        Boot::new(lab, "late-disk")?.direct(&uki).late_disk(&disk, LATE).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    disk.discard()
}

/// After the kernel started its first process: our unit waits by then.
const LATE: Duration = Duration::from_secs(20);
