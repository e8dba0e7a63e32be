//! Attack, or a careless operator: a disk with somebody else's root partition appears first. The host hands
//! the UKI to the firmware, so no loader variable names a boot disk; ours is plugged in while we wait.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// One boot: the stranger's volume, sealed to the same TPM, then the owner's.
///
/// # Errors
/// When the owner's volume does not open, or the report does not say why the stranger's did not.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let strangers = lab.enrolled_by(Enroller::Stranger, &uki, Userland::Script)?;
    let owners = lab.enrolled(&uki, Userland::Script)?;
    let first = lab.part("strangers").disk(None, &Root::Encrypted(strangers))?;
    let late = lab.disk(None, &Root::Encrypted(owners.clone()))?;
    let outcome = lab.boot()?.direct(&uki).disk(&first).late_disk(&late, LATE).tpm(owners.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&owners.volume.measurement()?)?.left_no_session()?;
    outcome.explain(refused_the_stranger(&outcome))?;
    first.discard()?;
    late.discard()
}

/// The report names the first volume as the one that was refused, and another one as ours.
///
/// # Errors
/// When it does not.
pub fn refused_the_stranger(outcome: &Outcome) -> Result<()> {
    let report = outcome.evidence()?.report()?;
    let refused = report.get("refused_volumes").and_then(Value::as_array).context("Nothing was refused")?;
    let slugs: Vec<_> = refused.iter().filter_map(|volume| volume.get("slug")?.as_str()).collect();
    ensure!(slugs == ["volume-unauthenticated"], "Refused were {slugs:?}");
    let device = |volume: Option<&Value>| volume.and_then(|volume| volume.get("device")).cloned();
    let (refused, ours) = (device(refused.first()), device(report.get("volume")));
    ensure!(refused.is_some() && ours.is_some() && refused != ours, "{ours:?} is ours, {refused:?} is not");
    Ok(())
}

/// After the kernel started its first process: the stranger's volume was refused by then.
const LATE: Duration = Duration::from_secs(25);
