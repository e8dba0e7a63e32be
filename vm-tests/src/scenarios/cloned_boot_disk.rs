//! Attack: the host attaches a copy of the boot disk, with the same UUIDs, in whose root partition it has put a volume
//! of its own. The loader's variable names both disks; the volumes' proof decides.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::Enroller;
use crate::lab::Lab;
use crate::outcome::Outcome;
use crate::scenarios::foreign_disk_first::refused_the_stranger;
use crate::volume::Userland;

/// One boot: the firmware starts the UKI from the copy.
///
/// # Errors
/// When the owner's volume does not open, or the report does not tell of two disks.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let strangers = lab.enrolled_by(Enroller::Stranger, &uki, Userland::Script)?;
    let owners = lab.enrolled(&uki, Userland::Script)?;
    let copy = lab.disk("cloned-boot-disk-copy", Some(&uki), &Root::Encrypted(strangers))?;
    let disk = lab.disk("cloned-boot-disk", Some(&uki), &Root::Encrypted(owners.clone()))?;
    let outcome = Boot::new(lab, "cloned-boot-disk")?.disk(&copy).disk(&disk).tpm(owners.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&owners.volume.measurement(&lab.tools)?)?;
    outcome.explain(refused_the_stranger(&outcome).and_then(|()| told_of_both(&outcome)))?;
    copy.discard()?;
    disk.discard()
}

fn told_of_both(outcome: &Outcome) -> Result<()> {
    let report = outcome.evidence()?.report()?;
    let warnings = report.get("warnings").and_then(Value::as_array).into_iter().flatten();
    let slugs: Vec<_> = warnings.filter_map(|warning| warning.get("slug")?.as_str()).collect();
    for wanted in ["loader-partition-duplicate", "root-several"] {
        ensure!(slugs.contains(&wanted), "No warning `{wanted}` among {slugs:?}");
    }
    Ok(())
}
