//! A TPM emulator for one test: swtpm on a free pair of TCP ports, with a log of its commands; killed on
//! drop.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::encoding::{from_hex, hex};
use super::port;
use super::tool::{daemon, succeed};

/// A running emulator; its state survives [`Swtpm::reboot`].
pub struct Swtpm {
    directory: TempDir,
    port: u16,
    process: Child,
}

impl Swtpm {
    /// A new TPM with all four banks, started.
    pub fn new() -> Self {
        Self::with_flags("not-need-init,startup-clear")
    }

    /// A new TPM with swtpm's `--flags`.
    pub fn with_flags(flags: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, process) = spawn(directory.path(), flags);
        Self { directory, port, process }
    }

    /// A new TPM with these banks (`tpm2_pcrallocate`'s syntax).
    pub fn with_banks(banks: &str) -> Self {
        let mut swtpm = Self::new();
        swtpm.tool(&format!("tpm2_pcrallocate {banks}"));
        swtpm.reboot();
        swtpm
    }

    /// Kills the emulator and starts it again: PCRs as after power-on, keys unchanged.
    pub fn reboot(&mut self) {
        self.stop();
        (self.port, self.process) = spawn(self.directory.path(), "not-need-init,startup-clear");
    }

    /// Kills the emulator.
    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The value for `--tpm2-device=`.
    pub fn device(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// The TCP port for commands; the control channel is on the next one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A scratch file beside the TPM's state.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs one of tpm2-tools in the scratch directory, which must succeed; returns its standard output.
    pub fn tool(&self, line: &str) -> Vec<u8> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        succeed(command.args(words).env("TPM2TOOLS_TCTI", self.device()).current_dir(self.directory.path()))
    }

    /// The same, returning whether it succeeds.
    pub fn tool_succeeds(&self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .env("TPM2TOOLS_TCTI", self.device())
            .current_dir(self.directory.path())
            .output();
        output.unwrap().status.success()
    }

    /// The value of a PCR in the SHA-256 bank, in lower-case hexadecimal, as tpm2-tools read it.
    pub fn pcr(&self, pcr: u8) -> String {
        let text = String::from_utf8(self.tool(&format!("tpm2_pcrread sha256:{pcr}"))).unwrap();
        let value = text.lines().find_map(|line| line.split_once(": 0x")).expect(&text).1;
        value.trim().to_lowercase()
    }

    /// Fails unless the TPM holds no transient object and no session.
    #[track_caller]
    pub fn holds_nothing(&self) {
        for kind in ["handles-transient", "handles-loaded-session"] {
            assert_eq!(String::from_utf8(self.tool(&format!("tpm2_getcap {kind}"))).unwrap(), "", "{kind}");
        }
    }

    /// Extends a PCR's SHA-256 bank with the digest of `text`.
    pub fn extend(&self, pcr: u8, text: &str) {
        let digest = hex(&Sha256::digest(text));
        self.tool(&format!("tpm2_pcrextend {pcr}:sha256={digest}"));
    }

    /// Sends a command as raw bytes, like a process that is killed afterwards; returns the response.
    pub fn raw(&self, command: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(command).unwrap();
        let mut response = vec![0; 4096];
        let size = stream.read(&mut response).unwrap();
        response.truncate(size);
        response
    }

    /// The codes of all commands that the TPM received so far (`TPM_CC`).
    pub fn commands(&self) -> Vec<u32> {
        let log = fs::read_to_string(self.directory.path().join(LOG)).unwrap();
        let mut lines = log.lines();
        let mut codes = Vec::new();
        while let Some(line) = lines.next() {
            // The heading of a command; the dump of its bytes follows, sixteen per line.
            if line.contains("SWTPM_IO_Read: length") {
                let bytes = from_hex(&lines.next().unwrap().replace(' ', ""));
                codes.push(u32::from_be_bytes(bytes[6..10].try_into().unwrap()));
            }
        }
        codes
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(state: &Path, flags: &str) -> (u16, Child) {
    // Another process may take a port between our probe and swtpm's bind, so others are tried.
    for _ in 0..10 {
        let (port, ..) = port::pair();
        let mut process = daemon("swtpm")
            .args(["socket", "--tpm2", "--flags", flags])
            .args(["--tpmstate", &format!("dir={}", state.display())])
            .args(["--server", &format!("type=tcp,port={port}")])
            .args(["--ctrl", &format!("type=tcp,port={}", port + 1)])
            .args(["--log", &format!("level=20,file={}", state.join(LOG).display())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) && process.try_wait().unwrap().is_none() {
            if answers(port + 1) {
                return (port, process);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = process.kill();
        let _ = process.wait();
    }
    panic!("swtpm does not start");
}

/// Whether swtpm's control channel is there, and not a listener of another test that probes the same port.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(&CMD_GET_CAPABILITY.to_be_bytes())?;
        stream.read_exact(&mut [0; 4])
    };
    ask().is_ok()
}

/// swtpm, `include/swtpm/tpm_ioctl.h`.
const CMD_GET_CAPABILITY: u32 = 1;
const LOG: &str = "commands.log";
