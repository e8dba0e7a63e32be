//! A Secure Boot UKI without `root=` reaches the PID 1 of its encrypted root, unattended.

use anyhow::{Result, ensure};

use crate::artefacts::filesystem::Userland;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::scenarios::full_userspace;

/// One boot.
///
/// # Errors
/// When the root is not reached.
pub fn run(lab: &Lab) -> Result<()> {
    boot(lab).map(drop)
}

/// A whole distribution: one boot like the demo's, whose outcome is returned, and one to multi-user.target.
///
/// # Errors
/// When the root or the target is not reached.
pub fn whole(lab: &Lab) -> Result<Outcome> {
    let outcome = boot(lab)?;
    full_userspace::run(&lab.part("full"))?;
    Ok(outcome)
}

/// The demo, with explanations for the person who watches.
///
/// # Errors
/// When the root is not reached.
pub fn narrated(lab: &Lab) -> Result<()> {
    println!("A virtual machine with Secure Boot, a TPM and an encrypted disk starts.");
    println!("Its host is not trusted, nobody sits at the console, the command line has no root=.");
    println!("Console (kernel messages left out):\n");
    let outcome = boot(lab)?;
    let evidence = outcome.evidence()?;
    println!("\nWhat the distribution's own tools found in the real root:\n");
    for (what, command, piece) in [
        ("mounted as root", "/proc/self/mountinfo", "mountinfo"),
        ("the mapping", "dmsetup table", "dm-table"),
        ("its content", "blkid -p /dev/mapper/root", "blkid"),
    ] {
        println!("{what} ({command}):\n  {}", evidence.text(piece)?.lines().next().unwrap_or_default());
    }
    println!("PCR 15, the fence (tpm2_pcrread):\n  {}", evidence.pcr("pcrs", 15)?);
    println!("the report of the unlock:\n{}", evidence.text("report/report.json")?);
    println!("Unlocked in {:.0} s of an emulated machine's boot.", outcome.wall.as_secs_f64());
    Ok(())
}

fn boot(lab: &Lab) -> Result<Outcome> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?)?.left_no_session()?;
    outcome.explain(secure_boot_was_on(&outcome))?;
    disk.discard()?;
    Ok(outcome)
}

/// By the kernel's log, which shows the command line without `root=` as well.
fn secure_boot_was_on(outcome: &Outcome) -> Result<()> {
    let log = outcome.evidence()?.text("kernel-log")?;
    ensure!(log.contains("secureboot: Secure boot enabled"), "The kernel saw no Secure Boot");
    let command_line = log.lines().find(|line| line.contains("Command line:")).unwrap_or_default();
    ensure!(!command_line.contains(" root="), "The command line has a root=: {command_line}");
    Ok(())
}
