//! LUKS2 volumes for tests, made by the real cryptsetup.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::tool::run_ok;

/// The passphrase of every test volume.
pub(crate) const PASSPHRASE: &str = "correct horse";
/// Bytes of every test volume.
pub(crate) const VOLUME: u64 = 24 << 20;
/// A cheap key derivation.
pub(crate) const FAST: [&str; 2] = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];

/// A file with a LUKS2 volume.
pub(crate) struct Volume {
    directory: TempDir,
}

impl Volume {
    /// Runs `cryptsetup luksFormat` with `options` and a cheap key derivation.
    pub(crate) fn format(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let volume = Self { directory };
        fs::File::create(volume.path()).unwrap().set_len(VOLUME).unwrap();
        fs::write(volume.key_file(), PASSPHRASE).unwrap();
        let (path, key) = (volume.path(), volume.key_file());
        let fixed = ["luksFormat", "--batch-mode", "--type=luks2", text(&path), text(&key)];
        let fast: &[&str] =
            if options.iter().any(|option| option.starts_with("--pbkdf")) { &[] } else { &FAST };
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
