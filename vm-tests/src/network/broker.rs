//! The key broker beside a machine: the verifying double of the black-box tests, which is written from
//! Trustee's protocol and proves itself on recorded traffic before it judges anything here.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::artefacts::tree::output_of;
use crate::artefacts::workbench::Workbench;
use crate::network::exchange::{Exchange, denied_because, released_once};
use crate::network::service::Service;
use crate::network::wire::Wire;
use crate::progress::say;

/// A running broker; it ends with this value.
#[derive(Debug)]
pub struct Broker {
    process: Child,
    log: PathBuf,
}

impl Broker {
    /// Starts one on the loopback of this network. Its traces are kept under `name`.
    ///
    /// # Errors
    /// When it does not start, or (once in a process) does not pass its own test on recorded traffic.
    pub fn start(workbench: &Workbench, wire: &Wire, name: &str, service: &Service) -> Result<Self> {
        self_test(workbench)?;
        let dir = workbench.cache.run_dir(&format!("broker-{name}"))?;
        copy_program(&dir)?;
        let log = dir.join("log");
        File::create(&log)?;
        let file = dir.join("config.json");
        fs::write(&file, service.configuration(&workbench.product.pki, &log).to_string())?;
        let mut process = wire
            .command(&workbench.tools, PYTHON)
            .args([dir.join(PROGRAM).as_os_str(), "serve".as_ref(), file.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("errors"))?)
            .spawn()
            .context("Starting the broker")?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("The broker has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let this = Self { process, log };
        let port: Value = serde_json::from_str(&line).with_context(|| {
            format!(
                "The broker did not start: {}",
                fs::read_to_string(dir.join("errors")).unwrap_or_default()
            )
        })?;
        ensure!(port == json!({"port": service.port()}), "The broker listens elsewhere: {line}");
        Ok(this)
    }

    /// All exchanges so far.
    ///
    /// # Errors
    /// When the log is unreadable.
    pub fn exchanges(&self) -> Result<Vec<Exchange>> {
        Exchange::read(&fs::read_to_string(&self.log)?)
    }

    /// It gave the key at `path` to the guest once, by three exchanges on one connection, and was asked for
    /// nothing else.
    ///
    /// # Errors
    /// When it was otherwise.
    pub fn released_once(&self, path: &str) -> Result<()> {
        released_once(&self.exchanges()?, path)
    }

    /// It refused the key once, for this reason in its own words, and gave nothing to anybody.
    ///
    /// # Errors
    /// When it was otherwise.
    pub fn denied_because(&self, why: &str) -> Result<()> {
        denied_because(&self.exchanges()?, why)
    }

    /// Nobody asked it for anything.
    ///
    /// # Errors
    /// When somebody did.
    pub fn was_not_asked(&self) -> Result<()> {
        let exchanges = self.exchanges()?;
        ensure!(exchanges.is_empty(), "The broker was asked: {exchanges:?}");
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The double against recorded traffic of a real Trustee; once for all.
fn self_test(workbench: &Workbench) -> Result<()> {
    static TESTED: OnceLock<Result<(), String>> = OnceLock::new();
    let test = || -> Result<()> {
        let dir = workbench.cache.run_dir("broker-self-test")?;
        copy_program(&dir)?;
        copy(&checkout().join("tests/data/kbs"), &dir)?;
        let args = [dir.join(PROGRAM), "self-test".into(), dir.join("kbs")];
        let said = workbench.tools.run(PYTHON, args)?;
        say(&format!("the key broker agrees with {} recorded facts", said.lines().count()));
        Ok(())
    };
    let tested = TESTED.get_or_init(|| test().map_err(|error| format!("{error:#}")));
    tested.clone().map_err(|error| anyhow!("The key broker fails its own test: {error}"))
}

fn copy_program(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(checkout().join("tests/kbs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            copy(&path, dir)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    output_of(Command::new("cp").arg("--recursive").args([from, to]), "cp").map(drop)
}

fn checkout() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

const PROGRAM: &str = "double.py";
/// Debian's, which has python3-cryptography.
const PYTHON: &str = "/usr/bin/python3";
