//! The files under test.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::artefacts::owner::{Owner, Trust};
use crate::artefacts::pki::Pki;

/// The files under test, and whom the guests' configurations trust.
#[derive(Debug, Clone)]
pub struct Product {
    /// The static executable.
    pub executable: PathBuf,
    /// The same with the test double's kind of evidence, which proves nothing.
    pub test_double: PathBuf,
    /// The directory `dracut-module/50cvm-unlock`.
    pub dracut_module: PathBuf,
    /// Who owns the guests.
    pub owner: Owner,
    /// The authority that their configurations pin for key brokers.
    pub pki: Pki,
}

impl Product {
    /// The executable for an image with this trust.
    ///
    /// # Errors
    /// When nobody built it; the error names the command that does.
    pub fn executable(&self, trust: Trust) -> Result<&Path> {
        let (executable, how) = match trust {
            Trust::Owner | Trust::Anybody | Trust::Brokers => (&self.executable, "cargo build --release"),
            Trust::BrokersAlone => (&self.test_double, "vm-tests/test-double"),
        };
        ensure!(executable.exists(), "No executable at {}: {how}", executable.display());
        Ok(executable)
    }
}
