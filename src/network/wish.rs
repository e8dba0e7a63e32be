//! The request for a network: a file that a path unit of the initramfs waits for. It exists while the value
//! does.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A pending request.
#[derive(Debug)]
pub(super) struct Wish(PathBuf);

impl Wish {
    /// Writes the file; `None` in a running system, whose network is not ours to start.
    pub(super) fn write(root: &Path) -> io::Result<Option<Self>> {
        if !root.join("etc/initrd-release").exists() {
            return Ok(None);
        }
        let path = root.join(FOLDER).join(NAME);
        fs::create_dir_all(root.join(FOLDER))?;
        fs::write(&path, "")?;
        Ok(Some(Self(path)))
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        // If this fails, taking the network down removes the file.
        let _gone = fs::remove_file(&self.0);
    }
}

/// The folder for our files of this boot.
pub(super) const FOLDER: &str = "run/cvm-unlock";
/// `PathExists=` of cvm-unlock-network.path.
pub(super) const NAME: &str = "network-wanted";
