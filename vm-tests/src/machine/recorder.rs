//! Records what firmware and signer make of PCR 7, whichever kernel runs, in a boot of its own.

use std::fs;

use anyhow::{Context, Result};

use crate::artefacts::cache::{Artefact, Key};
use crate::artefacts::format::Format;
use crate::artefacts::image::Image;
use crate::artefacts::recipe::Unlocker;
use crate::artefacts::suite::Suite;
use crate::artefacts::uki::Uki;
use crate::artefacts::workbench::Workbench;
use crate::encoding::{hex, unhex};
use crate::machine::boot::Boot;

/// The value of PCR 7 that the firmware leaves.
///
/// # Errors
/// When the recorder does not print it.
pub fn pcr7(workbench: &Workbench) -> Result<Vec<u8>> {
    unhex(&fs::read_to_string(recorded(workbench)?.file("value"))?)
}

/// The digests that the firmware extends PCR 7 with, in order.
///
/// # Errors
/// When they cannot be recorded.
pub fn pcr7_events(workbench: &Workbench) -> Result<Vec<Vec<u8>>> {
    let events = fs::read_to_string(recorded(workbench)?.file("events"))?;
    events.lines().map(unhex).collect()
}

fn recorded(workbench: &Workbench) -> Result<Artefact> {
    let Workbench { cache, factory_tpm, .. } = workbench;
    let kernel = Image::new(workbench, Suite::Trixie, Format::Ext4).unlocker(Unlocker::None).initramfs()?;
    let recorder = Uki::recorder(workbench, &kernel)?;
    let key = Key::of("pcr7 2").artefact(recorder.artefact()).artefact(factory_tpm);
    cache.artefact("pcr7", key, |path| {
        let boot = Boot::new(workbench, "recorder")?.direct(&recorder).tpm(factory_tpm.path.clone());
        let outcome = boot.run()?;
        let lines = outcome.serial.lines();
        let value = lines.iter().find_map(|line| line.text.split_once("recorded 7 "));
        let (_, value) =
            value.with_context(|| format!("The recorder printed no PCR 7\n{}", outcome.serial.tail(25)))?;
        fs::write(path.join("value"), value.trim().to_lowercase())?;
        let events = outcome.tpm()?.extends(7).iter().map(|digest| hex(digest)).collect::<Vec<_>>();
        Ok(fs::write(path.join("events"), events.join("\n"))?)
    })
}
