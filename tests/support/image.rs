//! LUKS2 images made by cryptsetup, for the executable to work on.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::executable::{Run, option, run};
use super::owner;
use super::swtpm::Swtpm;
use super::tool::{self, run_ok};
use super::volumes::{FAST, text};

/// A LUKS2 image made by cryptsetup, with a passphrase in keyslot 0.
pub struct Image {
    folder: TempDir,
}

impl Image {
    pub const PASSPHRASE: &'static str = "correct horse";

    pub fn new() -> Self {
        let image = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(image.owner_key(), owner::PRIVATE_KEY).unwrap();
        std::fs::write(image.config_file(), owner::config().to_string()).unwrap();
        std::fs::write(image.key_file(), Self::PASSPHRASE).unwrap();
        let file = std::fs::File::create(image.path()).unwrap();
        file.set_len(20 << 20).unwrap();
        image.cryptsetup(&[&["luksFormat", "--batch-mode", "--type=luks2"], &FAST[..]].concat());
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

    /// A configuration that names the owner's key, and nothing else.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    /// Runs cryptsetup on the image with the passphrase.
    pub fn cryptsetup(&self, arguments: &[&str]) {
        self.call(&[arguments, &["--key-file", text(&self.key_file())]].concat());
    }

    /// Runs cryptsetup on the image without a passphrase; returns its standard output.
    fn call(&self, arguments: &[&str]) -> String {
        run_ok("cryptsetup", &[arguments, &[text(&self.path())]].concat())
    }

    /// Adds a keyslot like systemd's: PBKDF2 with 1000 iterations.
    pub fn add_keyslot(&self, passphrase: &str) {
        let added = self.folder.path().join("added");
        std::fs::write(&added, passphrase).unwrap();
        let keys = ["--new-keyfile", text(&added)];
        self.cryptsetup(&[&["luksAddKey", "--batch-mode"], &FAST[..], &keys].concat());
    }

    /// The header's JSON, as cryptsetup prints it.
    pub fn metadata(&self) -> Value {
        serde_json::from_str(&self.call(&["luksDump", "--dump-json-metadata"])).unwrap()
    }

    /// Replaces a token, as anybody can who writes to the disk.
    pub fn replace_token(&self, number: &str, token: &Value) {
        self.call(&["token", "remove", "--token-id", number]);
        self.import_token(number, token);
    }

    /// Writes a token into an empty slot.
    pub fn import_token(&self, number: &str, token: &Value) {
        let file = self.folder.path().join("token.json");
        std::fs::write(&file, token.to_string()).unwrap();
        self.call(&["token", "import", "--token-id", number, "--json-file", text(&file)]);
    }

    /// Gives the volume another UUID: an edit of the header, with valid checksums.
    pub fn change_uuid(&self) {
        self.call(&["luksUUID", "--batch-mode", "--uuid=6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1"]);
    }

    /// Copies the token `number` into every other token slot of LUKS2.
    pub fn fill_with_token(&self, number: &str) {
        let token = self.metadata()["tokens"][number].clone();
        for other in (0..32_u32).map(|other| other.to_string()).filter(|other| other != number) {
            self.import_token(&other, &token);
        }
    }

    /// Enrols with the executable; its output as JSON.
    pub fn enroll(&self, tpm: &Swtpm, pcrs: &str) -> Value {
        let run = self.try_enroll(tpm, pcrs);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.json()
    }

    /// Enrols with the owner's signature; may fail.
    pub fn try_enroll(&self, tpm: &Swtpm, pcrs: &str) -> Run {
        let sign = format!("--sign-key={}", self.owner_key().display());
        // No firmware filled these PCRs, so the test decides whose keys PCR 7 stands for.
        self.enroll_with(tpm, &[&format!("--tpm2-pcrs={pcrs}"), &sign, "--private-db"])
    }

    /// Enrols with these options.
    pub fn enroll_with(&self, tpm: &Swtpm, options: &[&str]) -> Run {
        let path = self.path();
        let key = format!("--unlock-key-file={}", self.key_file().display());
        run(&[&["enroll", text(&path), &key, &option(tpm), "--json"], options].concat())
    }

    /// Whether cryptsetup opens the image with this passphrase.
    pub fn opens_with(&self, passphrase: &str) -> bool {
        let file = self.folder.path().join("tried");
        std::fs::write(&file, passphrase).unwrap();
        let open = ["open", "--test-passphrase", "--batch-mode", "--key-file"];
        tool::run("cryptsetup", &[&open[..], &[text(&file), text(&self.path())]].concat()).status.success()
    }

    /// Checks that cryptsetup finds both copies of the header sound and equal.
    pub fn repair_finds_nothing(&self) {
        let before = std::fs::read(self.path()).unwrap();
        self.call(&["repair", "--batch-mode"]);
        assert!(std::fs::read(self.path()).unwrap() == before, "cryptsetup found something to repair");
    }

    /// Runs a command of the executable on the image.
    pub fn run(&self, command: &str, options: &[&str]) -> Run {
        run(&[&[command, text(&self.path())], options].concat())
    }

    /// A dry run of the executable under the owner's configuration; its report.
    pub fn dry_run(&self, tpm: &Swtpm) -> Run {
        self.dry_run_under(tpm, &self.config_file())
    }

    /// A dry run of the executable under another configuration; its report.
    pub fn dry_run_under(&self, tpm: &Swtpm, config: &Path) -> Run {
        self.dry_run_at(&tpm.device(), config)
    }

    /// The same, with a TPM in the form of `--tpm2-device=`.
    pub fn dry_run_at(&self, device: &str, config: &Path) -> Run {
        let (device, config) = (format!("--tpm2-device={device}"), format!("--config={}", config.display()));
        run(&["unlock", "--dry-run", text(&self.path()), &device, &config, "--json"])
    }
}
