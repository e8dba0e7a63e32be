//! A workbench for black-box tests: LUKS2 images made by cryptsetup, and the executable under test. A missing tool
//! fails the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::swtpm::Swtpm;

/// A LUKS2 image made by cryptsetup, with a passphrase in keyslot 0.
pub struct Image {
    folder: TempDir,
}

impl Image {
    pub const PASSPHRASE: &'static str = "correct horse";

    pub fn new() -> Self {
        let image = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(image.owner_key(), OWNER_KEY).unwrap();
        std::fs::write(image.config_file(), owner_config().to_string()).unwrap();
        std::fs::write(image.key_file(), Self::PASSPHRASE).unwrap();
        let file = std::fs::File::create(image.path()).unwrap();
        file.set_len(20 << 20).unwrap();
        image.cryptsetup(&[
            "luksFormat",
            "--batch-mode",
            "--type=luks2",
            "--pbkdf=pbkdf2",
            "--pbkdf-force-iterations=1000",
        ]);
        image
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("volume.img")
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// The owner's private key.
    pub fn owner_key(&self) -> PathBuf {
        self.folder.path().join("owner.key")
    }

    /// A configuration that knows the owner, and nothing else.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.json")
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

    /// Adds a keyslot as systemd's are: PBKDF2 with 1000 iterations.
    pub fn add_keyslot(&self, passphrase: &str) {
        let added = self.folder.path().join("added");
        std::fs::write(&added, passphrase).unwrap();
        let status = Command::new("cryptsetup")
            .args([
                "luksAddKey",
                "--batch-mode",
                "--pbkdf=pbkdf2",
                "--pbkdf-force-iterations=1000",
                "--key-file",
            ])
            .args([self.key_file(), self.path(), added])
            .status();
        assert!(status.expect("cryptsetup").success());
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

    /// Replaces a token as somebody who can write to the disk would.
    pub fn replace_token(&self, number: &str, token: &Value) {
        let file = self.folder.path().join("token.json");
        std::fs::write(&file, token.to_string()).unwrap();
        let run = |arguments: &[&str]| {
            let status =
                Command::new("cryptsetup").args(arguments).arg(self.path()).status().expect("cryptsetup");
            assert!(status.success(), "cryptsetup {arguments:?}");
        };
        run(&["token", "remove", "--token-id", number]);
        run(&["token", "import", "--token-id", number, "--json-file", file.to_str().unwrap()]);
    }

    /// Copies the token `number` into every other place that LUKS2 has for tokens.
    pub fn fill_with_token(&self, number: &str) {
        let file = self.folder.path().join("token.json");
        std::fs::write(&file, self.metadata()["tokens"][number].to_string()).unwrap();
        for other in (0..32_u32).map(|other| other.to_string()).filter(|other| other != number) {
            let arguments = ["token", "import", "--token-id", &other, "--json-file", file.to_str().unwrap()];
            let status =
                Command::new("cryptsetup").args(arguments).arg(self.path()).status().expect("cryptsetup");
            assert!(status.success(), "cryptsetup {arguments:?}");
        }
    }

    /// Enrols with the executable; its output as JSON.
    pub fn enroll(&self, tpm: &Swtpm, pcrs: &str) -> Value {
        let run = self.try_enroll(tpm, pcrs);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.json()
    }

    /// Enrols signed by the owner, or tries to.
    pub fn try_enroll(&self, tpm: &Swtpm, pcrs: &str) -> Run {
        let sign = format!("--sign-key={}", self.owner_key().display());
        // No firmware filled these PCRs: whose keys PCR 7 stands for is the test's to say.
        self.enroll_with(tpm, &[&format!("--tpm2-pcrs={pcrs}"), &sign, "--private-db"])
    }

    /// Enrols with these options.
    pub fn enroll_with(&self, tpm: &Swtpm, options: &[&str]) -> Run {
        let path = self.path();
        let key = format!("--unlock-key-file={}", self.key_file().display());
        run(&[&["enroll", path.to_str().unwrap(), &key, &option(tpm), "--json"], options].concat())
    }

    /// Whether cryptsetup opens the image with this passphrase.
    pub fn opens_with(&self, passphrase: &str) -> bool {
        let file = self.folder.path().join("tried");
        std::fs::write(&file, passphrase).unwrap();
        let status = Command::new("cryptsetup")
            .args(["open", "--test-passphrase", "--batch-mode", "--key-file"])
            .args([&file, &self.path()])
            .stderr(std::process::Stdio::null())
            .status();
        status.expect("cryptsetup").success()
    }

    /// cryptsetup finds both copies of the header sound and equal.
    pub fn repair_finds_nothing(&self) {
        let before = std::fs::read(self.path()).unwrap();
        let status = Command::new("cryptsetup").args(["repair", "--batch-mode"]).arg(self.path()).status();
        assert!(status.expect("cryptsetup").success());
        assert!(std::fs::read(self.path()).unwrap() == before, "cryptsetup found something to repair");
    }

    /// Runs a command of the executable on the image.
    pub fn run(&self, command: &str, options: &[&str]) -> Run {
        run(&[&[command, self.path().to_str().unwrap()], options].concat())
    }

    /// A dry run of the executable under the owner's configuration; its report.
    pub fn dry_run(&self, tpm: &Swtpm) -> Run {
        self.dry_run_under(tpm, &self.config_file())
    }

    /// A dry run of the executable under another configuration; its report.
    pub fn dry_run_under(&self, tpm: &Swtpm, config: &Path) -> Run {
        self.dry_run_at(&tpm.device(), config)
    }

    /// The same with a TPM that is named as `--tpm2-device=` takes it.
    pub fn dry_run_at(&self, device: &str, config: &Path) -> Run {
        let (device, config) = (format!("--tpm2-device={device}"), format!("--config={}", config.display()));
        run(&["unlock", "--dry-run", self.path().to_str().unwrap(), &device, &config, "--json"])
    }
}

/// A configuration that knows the owner, and nothing else.
pub fn owner_config() -> Value {
    serde_json::json!({"authentic": {"owner_keys": [OWNER_PUBLIC_KEY]}})
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

/// The option by which the executable reaches an emulated TPM.
pub fn option(tpm: &Swtpm) -> String {
    format!("--tpm2-device={}", tpm.device())
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

// openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256; openssl pkey -pubout. Made for these tests.
pub const OWNER_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHGTE9DqW3A1G9BI4\n\
V9CVWSRph9aqTeT/8vdvnZnai9yhRANCAATnbNBtpsXZEcZ71Ray3X14U18KeJQS\n\
3mA96FyYNCjpIcGHsxjv+0yptXjvDrugHXA/Wf6ayoNZ2x991bkXZaQ6\n\
-----END PRIVATE KEY-----";
pub const OWNER_PUBLIC_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE52zQbabF2RHGe9UWst19eFNfCniU\n\
Et5gPehcmDQo6SHBh7MY7/tMqbV47w67oB1wP1n+msqDWdsffdW5F2WkOg==\n\
-----END PUBLIC KEY-----";
