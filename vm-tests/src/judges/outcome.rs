//! What a boot left behind.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::judges::evidence::Evidence;
use crate::judges::packets::Packets;
use crate::judges::serial::Serial;
use crate::judges::swtpm_log::TpmLog;

/// How the machine ended, as QEMU saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest reset itself: a panic, or a reboot.
    Reset,
    /// It still ran at the deadline.
    Deadline,
    /// The kernel did not start its first process, or reported a lost timer.
    Stalled,
    /// Anything else.
    Other(String),
}

/// All that a boot left behind.
#[derive(Debug)]
pub struct Outcome {
    /// The boot's name.
    pub name: String,
    /// How it ended.
    pub end: End,
    /// From switching on to the end.
    pub wall: Duration,
    /// The serial console.
    pub serial: Serial,
    /// The TPM's commands, if there was a TPM.
    pub tpm: Option<TpmLog>,
    /// What passed its network card, if it had one.
    pub packets: Option<Packets>,
    /// What the guest handed over, if it did.
    pub evidence: Option<Evidence>,
    /// Where everything lies.
    pub dir: PathBuf,
}

impl Outcome {
    /// The evidence.
    ///
    /// # Errors
    /// When the guest handed over none.
    pub fn evidence(&self) -> Result<&Evidence> {
        self.evidence.as_ref().context("The guest handed over no evidence")
    }

    /// The TPM's log.
    ///
    /// # Errors
    /// When the machine had no TPM.
    pub fn tpm(&self) -> Result<&TpmLog> {
        self.tpm.as_ref().context("The machine had no TPM")
    }

    /// Adds the end of the console to an error.
    ///
    /// # Errors
    /// The given one.
    pub fn explain(&self, judged: Result<()>) -> Result<&Self> {
        if let Err(error) = judged {
            bail!(
                "{error:#}\n  boot {} (traces in {}), end of its console:\n{}",
                self.name,
                self.dir.display(),
                self.serial.tail(25)
            );
        }
        Ok(self)
    }
}
