//! Opens device nodes, and checks that a node is the device that sysfs names. Each node is opened once,
//! read-only, and never again by path.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_CLOEXEC;
use nix::sys::stat::{major, minor};

use super::sysfs::DeviceNumber;

/// Opens `dev/NAME` below `root`. Below the real root directory it must be the block device `number`; below
/// another one (in tests) it may be a plain file.
///
/// # Errors
/// The operating system's; [`DeviceError::Other`] if the node is another device.
pub fn open(root: &Path, name: &str, number: DeviceNumber) -> Result<(PathBuf, File), DeviceError> {
    let path = root.join("dev").join(name);
    let fail = |source| DeviceError::Open { path: path.clone(), source };
    let file = OpenOptions::new().read(true).custom_flags(O_CLOEXEC).open(&path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let kind = metadata.file_type();
    let device = DeviceNumber { major: major(metadata.rdev()), minor: minor(metadata.rdev()) };
    let redirected = root != Path::new("/");
    if (kind.is_block_device() && device == number) || (redirected && kind.is_file()) {
        return Ok((path, file));
    }
    Err(DeviceError::Other { path })
}

/// A device node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The operating system's error.
    #[error("Opening {}", path.display())]
    Open {
        /// The node.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The node is not the device that sysfs names.
    #[error("{} is not the block device that sysfs names", path.display())]
    Other {
        /// The node.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_device_is_no_disk() {
        // mem(4): /dev/null is 1:3.
        let opened = open(Path::new("/"), "null", DeviceNumber { major: 1, minor: 3 });
        assert!(matches!(opened, Err(DeviceError::Other { .. })));
    }

    #[test]
    fn a_plain_file_is_a_disk_only_below_a_redirected_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        let path = root.path().join("dev/vda");
        std::fs::write(&path, b"disk").unwrap();
        let number = DeviceNumber { major: 254, minor: 0 };
        assert!(open(root.path(), "vda", number).is_ok());
        // The same file below the real root directory, by an absolute name.
        assert!(matches!(
            open(Path::new("/"), path.to_str().unwrap(), number),
            Err(DeviceError::Other { .. })
        ));
    }
}
