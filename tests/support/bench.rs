//! A workbench for black-box tests: an emulated TPM, LUKS2 images made by cryptsetup, and the executable under test.
//! The tools that make and judge are not ours; a missing one fails the test.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// An emulated TPM of its own, reached over TCP; killed when dropped.
pub struct Swtpm {
    process: Child,
    port: u16,
    state: TempDir,
}

impl Swtpm {
    pub fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        // Another test may take the ports between our looking and swtpm's binding: then the next pair is tried.
        for _ in 0..20 {
            let port = free_pair();
            let mut process = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .arg("--tpmstate")
                .arg(format!("dir={}", state.path().display()))
                .arg("--server")
                .arg(format!("type=tcp,port={port},bindaddr=127.0.0.1"))
                .arg("--ctrl")
                .arg(format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1))
                .arg("--log")
                .arg(format!("level=20,file={}", state.path().join("log").display()))
                .stderr(Stdio::null())
                .spawn()
                .expect("swtpm");
            let deadline = Instant::now() + Duration::from_secs(10);
            while Instant::now() < deadline && process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port + 1)).is_ok() {
                    return Self { process, port, state };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            process.kill().ok();
            process.wait().ok();
        }
        panic!("swtpm did not start");
    }

    /// The option by which the executable reaches it.
    pub fn option(&self) -> String {
        format!("--tpm2-device=swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// The value of a PCR in the SHA-256 bank, in lower-case hexadecimal digits, as tpm2-tools read it.
    pub fn pcr(&self, pcr: u8) -> String {
        let output = self.tpm2(&["tpm2_pcrread", &format!("sha256:{pcr}")]);
        let text = String::from_utf8(output.stdout).unwrap();
        let value = text.lines().find_map(|line| line.split_once(": 0x")).expect(&text).1;
        value.trim().to_lowercase()
    }

    /// Extends a PCR with the SHA-256 digest of `text`, by tpm2-tools.
    pub fn extend(&self, pcr: u8, text: &str) {
        use sha2::Digest;
        let digest: String = sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(self.tpm2(&["tpm2_pcrextend", &format!("{pcr}:sha256={digest}")]).status.success());
    }

    /// Runs one of tpm2-tools against it.
    pub fn tpm2(&self, command: &[&str]) -> Output {
        let output = Command::new(command[0])
            .args(&command[1..])
            .env("TPM2TOOLS_TCTI", format!("swtpm:host=127.0.0.1,port={}", self.port))
            .output()
            .expect(command[0]);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// How many commands it has received so far.
    pub fn commands(&self) -> usize {
        let log = std::fs::read_to_string(self.state.path().join("log")).unwrap();
        log.matches("SWTPM_IO_Read").count()
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn free_pair() -> u16 {
    loop {
        let first = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        match TcpListener::bind(("127.0.0.1", port.saturating_add(1))) {
            Ok(_) => return port,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A LUKS2 image made by cryptsetup, with a passphrase in keyslot 0.
pub struct Image {
    folder: TempDir,
}

impl Image {
    pub const PASSPHRASE: &'static str = "correct horse";

    pub fn new() -> Self {
        let image = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(image.key_file(), Self::PASSPHRASE).unwrap();
        let file = std::fs::File::create(image.path()).unwrap();
        file.set_len(20 << 20).unwrap();
        image.cryptsetup(&["luksFormat", "--batch-mode", "--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]);
        image
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("volume.img")
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// Runs cryptsetup on the image with the passphrase.
    pub fn cryptsetup(&self, arguments: &[&str]) {
        let status = Command::new("cryptsetup")
            .args(arguments)
            .arg("--key-file")
            .arg(self.key_file())
            .arg(self.path())
            .status()
            .expect("cryptsetup");
        assert!(status.success(), "cryptsetup {arguments:?}");
    }

    /// The header's JSON, as cryptsetup prints it.
    pub fn metadata(&self) -> Value {
        let output = Command::new("cryptsetup")
            .args(["luksDump", "--dump-json-metadata"])
            .arg(self.path())
            .output()
            .expect("cryptsetup");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Enrols with the executable; its output as JSON.
    pub fn enroll(&self, tpm: &Swtpm, pcrs: &str) -> Value {
        let run = self.try_enroll(tpm, pcrs);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.json()
    }

    /// Enrols, or tries to.
    pub fn try_enroll(&self, tpm: &Swtpm, pcrs: &str) -> Run {
        let path = self.path();
        let key = format!("--unlock-key-file={}", self.key_file().display());
        let pcrs = format!("--tpm2-pcrs={pcrs}");
        run(&["enroll", path.to_str().unwrap(), &key, &pcrs, &tpm.option(), "--json"])
    }

    /// A dry run of the executable; its report.
    pub fn dry_run(&self, tpm: &Swtpm) -> Run {
        run(&["unlock", "--dry-run", self.path().to_str().unwrap(), &tpm.option(), "--json"])
    }
}

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

/// Runs the executable.
pub fn run(arguments: &[&str]) -> Run {
    let output = Command::new(executable()).args(arguments).output().unwrap();
    Run {
        code: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The executable under test.
pub fn executable() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cvm-unlock"))
}
