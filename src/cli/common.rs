//! What every command has: the options that all take, and what they do to the process.

use std::path::PathBuf;

use super::command::Command;
use super::given::Given;
use super::options;
use super::usage::{Mistake, UsageError};
use crate::base::error::Error;
use crate::config::Config;

/// Options of every command.
#[derive(Debug)]
pub(super) struct Common {
    /// The directory that stands for `/`: every path of the host is below it.
    pub(super) root: PathBuf,
    /// Another configuration than the image's.
    config: Option<PathBuf>,
    /// Machine-readable output.
    pub(super) json: bool,
}

impl Common {
    pub(super) fn parse(given: &Given) -> Self {
        Self {
            root: given.path(&options::ROOT).unwrap_or_else(|| PathBuf::from("/")),
            config: given.path(&options::CONFIG),
            json: given.has(&options::JSON),
        }
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// It is not valid, or cannot be read.
    pub(super) fn configuration(&self) -> Result<Config, Error> {
        Ok(Config::load(&self.root, self.config.as_deref())?)
    }

    /// Refuses to change this machine from anywhere but its own initramfs.
    ///
    /// # Errors
    /// This is not an initramfs, or the root is not the machine's.
    pub(super) fn only_in_initramfs(&self, command: Command) -> Result<(), UsageError> {
        if self.root.join("etc/initrd-release").exists() && self.root.as_os_str() == "/" {
            Ok(())
        } else {
            Err(UsageError { command: Some(command), mistake: Mistake::NotInInitramfs })
        }
    }
}

/// Keeps secrets out of swap. A machine that forbids it is used all the same, with a warning.
pub(super) fn lock_memory() {
    if let Err(error) = crate::sys::memory::lock() {
        log::warn!("{}", crate::base::error::chain(&error));
    }
}
