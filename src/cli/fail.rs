//! `fail`: the end of a boot that must not go on. Run by `cvm-unlock-fail.service` only.
//!
//! It sees to it that PCR 15 is fenced (the process that failed may have been killed before it could), says
//! one clear line and ends the machine. It does not come back.

use std::convert::Infallible;

use nix::sys::reboot::{RebootMode, reboot};

use super::command::Command;
use super::common::Common;
use crate::base::error::{Error, failures};
use crate::config::End;
use crate::tpm::Device;

pub(super) fn run(common: &Common) -> Result<u8, Error> {
    common.only_in_initramfs(Command::Fail)?;
    // A configuration that cannot be read still has to end the machine.
    let config = common.configuration().unwrap_or_default();
    if config.tpm.waiver().is_none()
        && let Err(error) = crate::boot::fence_failure(&common.root, &Device::default())
    {
        log::error!("PCR 15 could not be fenced: {error} [{}]", error.slug());
    }
    let (mode, word) = match config.on_failure {
        End::Poweroff => (RebootMode::RB_POWER_OFF, "powering off"),
        End::Reboot => (RebootMode::RB_AUTOBOOT, "rebooting"),
        End::Halt => (RebootMode::RB_HALT_SYSTEM, "halting"),
    };
    log::error!("The root volume was not unlocked or could not be mounted: {word}");
    nix::unistd::sync();
    let never: Result<Infallible, nix::Error> = reboot(mode);
    match never {
        Ok(never) => match never {},
        Err(error) => Err(EndError(error).into()),
    }
}

/// What `reboot(2)` said.
#[derive(Debug, thiserror::Error)]
#[error("Ending the machine")]
struct EndError(#[source] nix::Error);

failures! { EndError:
    Self(_) => "end-failed", Os, "";
}
