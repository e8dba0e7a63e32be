//! Attack: the host attaches a copy of the boot disk with the same UUIDs, and puts its own volume into the
//! copy's root partition. The loader's variable matches both disks; the volumes' proof decides.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::scenarios::foreign_disk_first::refused_the_stranger;

/// One boot: the firmware starts the UKI from the copy.
///
/// # Errors
/// When the owner's volume does not open, or the report does not warn of two disks.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let strangers = lab.enrolled_by(Enroller::Stranger, &uki, Userland::Script)?;
    let owners = lab.enrolled(&uki, Userland::Script)?;
    let copy = lab.part("copy").disk(Some(&uki), &Root::Encrypted(strangers))?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(owners.clone()))?;
    let outcome = lab.boot()?.disk(&copy).disk(&disk).tpm(owners.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&owners.volume.measurement()?)?;
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
