//! Disks and file systems of other clouds: SCSI and NVMe, sectors of 4096 bytes, a disk that was enlarged
//! after it was partitioned; xfs and btrfs with the mount options of the measured configuration.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::artefacts::filesystem::Userland;
use crate::artefacts::format::Format;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::{Bus, Layout, Root};

/// xfs on a SCSI disk.
///
/// # Errors
/// When the root is not reached, or is mounted in another way.
pub fn xfs_on_scsi(lab: &Lab) -> Result<()> {
    let layout = Layout { bus: Bus::Scsi, ..Layout::default() };
    boot(&lab.with(Format::Xfs), layout, |outcome| {
        is_mounted(outcome, "/", "xfs", &["noatime", "logbsize=64k"])?;
        is_on(outcome, "/dev/sda2")
    })
}

/// btrfs in a subvolume, on an NVMe namespace of 4096-byte sectors that has grown by a GiB.
///
/// # Errors
/// When the root is not reached, or is mounted in another way.
pub fn btrfs_on_nvme(lab: &Lab) -> Result<()> {
    let layout = Layout { bus: Bus::Nvme, sector: 4096, enlarged: 1024, ..Layout::default() };
    boot(&lab.with(Format::Btrfs), layout, |outcome| {
        is_mounted(outcome, "/@root", "btrfs", &["noatime", "subvol=/@root"])?;
        is_on(outcome, "/dev/nvme0n1p2")
    })
}

fn boot(lab: &Lab, layout: Layout, judge: impl FnOnce(&Outcome) -> Result<()>) -> Result<()> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk_like(layout, Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?)?;
    outcome.explain(judge(&outcome))?;
    disk.discard()
}

fn is_mounted(outcome: &Outcome, part: &str, format: &str, options: &[&str]) -> Result<()> {
    let (mounted, words) = outcome.evidence()?.root_mount()?;
    ensure!(mounted == part, "Mounted is `{mounted}` of the file system, not `{part}`");
    ensure!(words.first().is_some_and(|word| word == format), "The root is mounted as {words:?}");
    let has = |option: &&str| words.iter().flat_map(|word| word.split(',')).any(|word| word == *option);
    ensure!(options.iter().all(has), "The root is mounted with {words:?}, not with {options:?}");
    Ok(())
}

fn is_on(outcome: &Outcome, device: &str) -> Result<()> {
    let report = outcome.evidence()?.report()?;
    let ours = report.get("volume").and_then(|volume| volume.get("device")).and_then(Value::as_str);
    let ours = ours.context("The report names no device")?;
    ensure!(ours == device, "The volume is on {ours}");
    Ok(())
}
