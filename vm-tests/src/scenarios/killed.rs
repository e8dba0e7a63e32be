//! The process dies in the middle of its work (a crash, the out-of-memory killer): nothing else takes over,
//! the TPM is fenced, and the machine powers off.

use anyhow::{Result, ensure};

use crate::artefacts::filesystem::Userland;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// One boot, with a script beside our unit that kills it as soon as it opens the TPM.
///
/// # Errors
/// When the machine ends in another way, or the process was not killed.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().probed().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).file("beside", KILL).run()?;
    outcome.explain(was_killed(&outcome))?.powered_off_without_asking()?.fenced_after_failure()?;
    disk.discard()
}

fn was_killed(outcome: &Outcome) -> Result<()> {
    ensure!(outcome.serial.says("cvm-probe: killed"), "The script killed nothing");
    Ok(())
}

const KILL: &str = r#"inotifywait -qq -e open /dev/tpm0 /dev/tpmrm0
for process in /proc/[0-9]*; do
    read -r name < $process/comm
    if [ "$name" = cvm-unlock ]; then
        kill -9 ${process#/proc/} && echo "<3>cvm-probe: killed ${process#/proc/}" > /dev/kmsg
    fi
done
"#;
