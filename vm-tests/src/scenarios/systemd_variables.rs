//! Attacks: the host sets EFI variables that systemd obeys and nobody measures. With `SystemdOptions` it adds
//! words to systemd's command line, with `HibernateLocation` it offers a memory image to resume from.

use anyhow::{Result, ensure};

use crate::artefacts::filesystem::Userland;
use crate::artefacts::firmware::Variable;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// Two boots with such a variable, and one with another variable, which opens.
///
/// # Errors
/// When a variable is obeyed or passed over, or the control does not open.
pub fn run(lab: &Lab) -> Result<()> {
    for (part, name, text) in [
        ("options", "SystemdOptions", "init=/bin/sh"),
        ("hibernation", "HibernateLocation", r#"{"uuid":"6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1","offset":0}"#),
    ] {
        let outcome = boot(&lab.part(part), Variable { name, vendor: SYSTEMD, text })?;
        outcome
            .powered_off_without_asking()?
            .refused_with("efi-variable-set")?
            .unsealed_nothing()?
            .fenced_after_failure()?;
    }
    let control = boot(lab, Variable { name: "SystemdOption", vendor: SYSTEMD, text: "init=/bin/sh" })?;
    control.reached_real_root()?.explain(has_the_variable(&control))?;
    Ok(())
}

fn boot(lab: &Lab, variable: Variable) -> Result<Outcome> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.variable(variable).disk(&disk).tpm(enrolled.tpm()).run()?;
    disk.discard()?;
    Ok(outcome)
}

/// The guest sees what the host sets: `ls /sys/firmware/efi/efivars` in the real root.
fn has_the_variable(outcome: &Outcome) -> Result<()> {
    let variables = outcome.evidence()?.text("efi-variables")?;
    let name = format!("SystemdOption-{SYSTEMD}");
    ensure!(variables.lines().any(|line| line == name), "No {name} among {variables}");
    Ok(())
}

/// The vendor of systemd's variables (systemd, `efivars.h`).
const SYSTEMD: &str = "8cf2644b-4b0b-428f-9387-6d876050dc67";
