//! `unlock`: the pipeline at boot, or a dry run of it.

use std::path::PathBuf;

use super::{Common, print, print_json, status};
use crate::base::error::Error;
use crate::base::source::Window;
use crate::boot::Machine;
use crate::config::Config;
use crate::discover::image;
use crate::provision::TargetError;
use crate::report::{Report, VolumeReport};
use crate::tpm::Device;

/// Options of `unlock`.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) volume: Option<PathBuf>,
    pub(super) dry_run: bool,
    pub(super) tpm: Device,
    pub(super) signature: Option<PathBuf>,
}

pub(super) fn run(common: &Common, options: &Options) -> Result<u8, Error> {
    let mut report = Report::default();
    let outcome = unlock(common, options, &mut report);
    if let Err(error) = &outcome {
        report.fail(error);
    }
    if options.dry_run {
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

fn unlock(common: &Common, options: &Options, report: &mut Report) -> Result<(), Error> {
    let config = Config::load(&common.root, common.config.as_deref())?;
    let machine = Machine {
        root: &common.root,
        config: &config,
        tpm: &options.tpm,
        signature: options.signature.as_deref(),
    };
    match &options.volume {
        _ if !options.dry_run => machine.unlock(report),
        None => machine.dry_run(None, report),
        Some(path) => {
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
