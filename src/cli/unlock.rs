//! `unlock`: the pipeline at boot, or a dry run of it.

use std::path::PathBuf;

use super::common::Common;
use super::given::Given;
use super::options;
use super::output::{print, print_json};
use super::status;
use super::usage::{Mistake, UsageError};
use crate::base::error::Error;
use crate::base::source::Window;
use crate::boot::Machine;
use crate::discover::image;
use crate::provision::TargetError;
use crate::report::{Report, VolumeReport};
use crate::tpm::Device;

/// A request to unlock the root volume.
#[derive(Debug)]
pub(super) struct Unlock {
    tpm: Device,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// Finds the volume and signatures itself.
    Boot,
    /// Changes nothing; of these, what is not named is looked for as at boot.
    DryRun { volume: Option<PathBuf>, signature: Option<PathBuf> },
}

impl Unlock {
    pub(super) fn parse(given: &Given) -> Result<Self, UsageError> {
        let volume = given.operand().map(PathBuf::from);
        let signature = given.path(&options::TPM2_SIGNATURE);
        let mode = match (given.has(&options::DRY_RUN), volume, signature) {
            (true, volume, signature) => Mode::DryRun { volume, signature },
            (false, None, None) => Mode::Boot,
            (false, ..) => return Err(given.refuse(Mistake::NotDry)),
        };
        Ok(Self { tpm: given.tpm()?, mode })
    }
}

pub(super) fn run(common: &Common, request: &Unlock) -> Result<u8, Error> {
    let mut report = Report::default();
    let outcome = unlock(common, request, &mut report);
    if let Err(error) = &outcome {
        report.fail(error);
    }
    if let Mode::DryRun { .. } = request.mode {
        // The report of this boot stays; a dry run's goes to standard output.
        let code = outcome.as_ref().map_or_else(Error::exit_code, |()| 0);
        if common.json {
            print_json(&report)?
        } else {
            print(&status::text(&report))?
        };
        return Ok(code);
    }
    if let Err(error) = report.write(&common.root) {
        log::error!("{}", crate::base::error::chain(&error));
    }
    if let Err(error) = crate::report::journal::send(&common.root, &report) {
        log::warn!("Sending the journal entry: {error}");
    }
    outcome?;
    if let Some(volume) = &report.volume {
        log::info!("{} is unlocked as {}", volume.device, volume.mapping.as_deref().unwrap_or_default());
    }
    Ok(0)
}

fn unlock(common: &Common, request: &Unlock, report: &mut Report) -> Result<(), Error> {
    let config = common.configuration()?;
    let signature = match &request.mode {
        Mode::Boot => None,
        Mode::DryRun { signature, .. } => signature.as_deref(),
    };
    let machine = Machine { root: &common.root, config: &config, tpm: &request.tpm, signature };
    match &request.mode {
        Mode::Boot => machine.unlock(report),
        Mode::DryRun { volume: None, .. } => machine.dry_run(None, report),
        Mode::DryRun { volume: Some(path), .. } => {
            let opening = |source| TargetError::Open { path: path.clone(), source };
            let mut file = std::fs::File::open(path).map_err(opening)?;
            let (size, sector) = image::measure(&mut file, &common.root).map_err(TargetError::Find)?;
            let volume = image::locate(&file, size, sector).map_err(TargetError::Find)?;
            report.volume = Some(VolumeReport {
                device: path.display().to_string(),
                partition_uuid: volume.partition.as_ref().map(|partition| partition.uuid.to_string()),
                ..VolumeReport::default()
            });
            let window = Window::new(&file, volume.offset, volume.length);
            machine.dry_run(Some((&window, volume.length, volume.sector.bytes())), report)
        }
    }
}
