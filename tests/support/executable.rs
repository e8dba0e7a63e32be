//! The executable under test, and the results of its runs.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::swtpm::Swtpm;

/// A finished run of the executable.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }

    /// The slug of the failure in the report.
    pub fn slug(&self) -> String {
        self.json()["failure"]["slug"].as_str().unwrap_or_default().to_owned()
    }
}

/// The option that makes the executable use an emulated TPM.
pub fn option(tpm: &Swtpm) -> String {
    format!("--tpm2-device={}", tpm.device())
}

/// Runs the executable.
pub fn run(arguments: &[&str]) -> Run {
    let output = Command::new(path()).args(arguments).output().unwrap();
    Run {
        code: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The executable under test.
pub fn path() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cvm-unlock"))
}
