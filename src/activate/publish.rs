//! Publishes the mapping: makes `/dev/mapper/root` the link that udev would have made.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{ActivateError, Mapped, NAME};

/// The mapping under the name that `sysroot.mount` mounts.
#[derive(Debug)]
pub struct Published {
    /// `/dev/mapper/root`.
    pub device: String,
}

/// Makes `/dev/mapper/root` a link to the kernel's own node.
///
/// Without udev's cookie, libdevmapper creates a node there, which udev cannot replace with its link later.
///
/// # Errors
/// `publish-failed`.
pub fn publish(mapped: &Mapped, root: &Path) -> Result<Published, ActivateError> {
    link(&root.join("dev/mapper"), mapped.minor).map_err(ActivateError::Publish)?;
    Ok(Published { device: format!("/dev/mapper/{NAME}") })
}

fn link(folder: &Path, minor: u32) -> io::Result<()> {
    let name = folder.join(NAME);
    if fs::symlink_metadata(&name).is_ok_and(|metadata| metadata.is_symlink()) {
        return Ok(());
    }
    let temporary = folder.join(format!(".{NAME}.new"));
    symlink(format!("../dm-{minor}"), &temporary)?;
    fs::rename(&temporary, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_replaced_by_a_link_and_a_link_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), b"").unwrap();
        link(folder.path(), 3).unwrap();
        assert_eq!(fs::read_link(folder.path().join(NAME)).unwrap().as_os_str(), "../dm-3");
        link(folder.path(), 4).unwrap();
        assert_eq!(fs::read_link(folder.path().join(NAME)).unwrap().as_os_str(), "../dm-3");
    }
}
