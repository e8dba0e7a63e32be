//! LUKS2 volumes for tests: made by the real cryptsetup, and forged by rewriting what it made with fresh checksums, as a
//! hostile host would. Written independently of the code under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The passphrase of every test volume.
pub(crate) const PASSPHRASE: &str = "correct horse";
/// Bytes of every test volume.
pub(crate) const VOLUME: u64 = 24 << 20;

/// Runs a tool that must exist.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> Output {
    let missing = |error| panic!("{tool} is needed by this test: {error}");
    Command::new(tool).args(arguments).env("LC_ALL", "C").output().unwrap_or_else(missing)
}

/// Runs a tool that must succeed.
pub(crate) fn run_ok(tool: &str, arguments: &[&str]) -> String {
    let output = run(tool, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A file with a LUKS2 volume.
pub(crate) struct Volume {
    directory: TempDir,
}

impl Volume {
    /// `cryptsetup luksFormat` with further `options` and a key derivation that takes no time.
    pub(crate) fn format(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let volume = Self { directory };
        fs::File::create(volume.path()).unwrap().set_len(VOLUME).unwrap();
        fs::write(volume.key_file(), PASSPHRASE).unwrap();
        let (path, key) = (volume.path(), volume.key_file());
        let fixed = ["luksFormat", "--batch-mode", "--type=luks2", text(&path), text(&key)];
        let fast: &[&str] = if options.iter().any(|option| option.starts_with("--pbkdf")) {
            &[]
        } else {
            &["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]
        };
        run_ok("cryptsetup", &[&fixed, fast, options].concat());
        volume
    }

    /// Runs cryptsetup with `action`, the volume, and `options`; the passphrase is in the key file.
    pub(crate) fn cryptsetup(&self, action: &str, options: &[&str]) -> String {
        let (path, key) = (self.path(), format!("--key-file={}", text(&self.key_file())));
        run_ok("cryptsetup", &[&[action, "--batch-mode", &key, text(&path)], options].concat())
    }

    /// The volume's file.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("volume")
    }

    /// A file with the passphrase.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The size that the primary header states.
pub(crate) fn header_size(volume: &[u8]) -> usize {
    usize::try_from(u64::from_be_bytes(volume[8..16].try_into().unwrap())).unwrap()
}

/// The JSON text of the primary copy.
pub(crate) fn json_text(volume: &[u8]) -> String {
    let area = &volume[4096..header_size(volume)];
    let end = area.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(area[..end].to_vec()).unwrap()
}

/// Replaces the JSON text of the copy at `start`.
pub(crate) fn replace_text(volume: &mut [u8], start: usize, text: &str) {
    let size = header_size(volume);
    let area = &mut volume[start + 4096..start + size];
    area.fill(0);
    area[..text.len()].copy_from_slice(text.as_bytes());
    checksum(volume, start);
}

/// Computes the checksum of the copy at `start` anew.
pub(crate) fn checksum(volume: &mut [u8], start: usize) {
    let size = header_size(volume);
    volume[start + 448..start + 512].fill(0);
    let sum = Sha256::digest(&volume[start..start + size]);
    volume[start + 448..start + 480].copy_from_slice(&sum);
}

/// The volume with both copies' JSON text replaced, checksums included.
pub(crate) fn forge_text(volume: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let mut forged = volume.to_vec();
    let text = change(&json_text(volume));
    replace_text(&mut forged, 0, &text);
    replace_text(&mut forged, header_size(volume), &text);
    forged
}

/// The volume with both copies' JSON changed.
pub(crate) fn forge(volume: &[u8], change: impl Fn(&mut Value)) -> Vec<u8> {
    forge_text(volume, |text| {
        let mut json = serde_json::from_str(text).unwrap();
        change(&mut json);
        json.to_string()
    })
}
