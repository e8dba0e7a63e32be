//! swtpm with a state of its own: behind a TCP port for tools on the host, or behind a socket for QEMU, with
//! a log of its commands.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::tree::Tree;

/// A TPM as it leaves the factory: with an endorsement key, and nothing else.
///
/// # Errors
/// When swtpm_setup fails.
pub fn manufacture(cache: &Cache, tools: &Tree) -> Result<Artefact> {
    let key = Key::of("tpm 1").and(tools.root().as_os_str().as_encoded_bytes());
    cache.artefact("tpm", key, |path| manufacture_at(tools, path))
}

/// Makes one more TPM, with its state in this directory.
///
/// # Errors
/// When swtpm_setup fails.
pub fn manufacture_at(tools: &Tree, path: &Path) -> Result<()> {
    tools.run(
        "swtpm_setup",
        [
            "--tpm2".as_ref(),
            "--tpmstate".as_ref(),
            path.as_os_str(),
            "--create-ek-cert".as_ref(),
            "--create-platform-cert".as_ref(),
            "--pcr-banks".as_ref(),
            "sha256".as_ref(),
            "--overwrite".as_ref(),
        ],
    )?;
    Ok(())
}

/// A running emulator; it ends with this value.
#[derive(Debug)]
pub struct Swtpm {
    process: Child,
    address: String,
}

impl Swtpm {
    /// Starts a TPM on a TCP port of the loopback interface, powered on.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn on_the_host(tools: &Tree, state: &Path) -> Result<Self> {
        let port = free_port_pair()?;
        let mut command = swtpm(tools, state);
        command
            .arg("--server")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={port}"))
            .arg("--ctrl")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1))
            .args(["--flags", "not-need-init,startup-clear"]);
        let address = format!("swtpm:host=127.0.0.1,port={port}");
        let mut this = Self { process: command.spawn().context("Starting swtpm")?, address };
        // Its control port is asked, as a connection to the other one would take the TPM's only client slot.
        this.wait_until(|| std::net::TcpStream::connect(("127.0.0.1", port + 1)).is_ok())?;
        Ok(this)
    }

    /// Starts a TPM for QEMU, logging every command to `log`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn for_machine(tools: &Tree, state: &Path, socket: &Path, log: &Path) -> Result<Self> {
        let mut command = swtpm(tools, state);
        command
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--log")
            .arg(format!("level=20,file={}", log.display()));
        let mut this = Self {
            process: command.spawn().context("Starting swtpm")?,
            address: socket.display().to_string(),
        };
        this.wait_until(|| socket.exists())?;
        Ok(this)
    }

    /// Where it listens: a TSS2 TCTI configuration, or QEMU's socket.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !ready() {
            if let Some(status) = self.process.try_wait()? {
                bail!("swtpm ended with {status}");
            }
            if started.elapsed() > START_LIMIT {
                bail!("swtpm did not listen within {START_LIMIT:?}");
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // SIGTERM, so that it writes its state; what fails here shows in the next use of the state.
        if let Ok(id) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.process.wait();
    }
}

/// Copies a TPM's state into `to`.
///
/// # Errors
/// When the copy fails.
pub fn copy_state(from: &Path, to: &Path) -> Result<PathBuf> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("tpm2-") {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(to.to_owned())
}

fn swtpm(tools: &Tree, state: &Path) -> Command {
    let mut command = tools.command("swtpm");
    command.args(["socket", "--tpm2", "--tpmstate"]).arg(format!("dir={}", state.display()));
    command
}

/// A port that is free, and so is the next one: the TCTI takes it for the control channel. No pair is given
/// out twice, as it is free again until its swtpm listens.
fn free_port_pair() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..100 {
        let first = TcpListener::bind(("127.0.0.1", 0))?;
        let port = first.local_addr()?.port();
        let taken = (port.saturating_sub(1)..=port.saturating_add(1)).any(|port| given.contains(&port));
        if port < u16::MAX && !taken && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("No two neighbouring TCP ports are free")
}

const START_LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pairs_of_ports_overlap() {
        let pairs: BTreeSet<_> = (0..20).map(|_| free_port_pair().unwrap()).collect();
        assert_eq!(pairs.len(), 20);
        assert!(pairs.iter().all(|port| !pairs.contains(&(port + 1))), "{pairs:?}");
    }
}
