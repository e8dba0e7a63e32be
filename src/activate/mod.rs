//! Maps the fenced volume as `root`, and reads the mapping back from the kernel. A mapping that differs from
//! the intended one is removed.

mod publish;
mod table;

use std::io;
use std::path::Path;

use crate::base::error::failures;
use crate::cryptsetup::{CryptError, Detached};
use crate::discover::Candidate;
use crate::fence::Fenced;
use crate::format::luks::Snapshot;
use crate::prove::Verified;
use crate::sys::dm;

pub use publish::{Published, publish};
pub use table::Difference;

/// A mapping whose live table is the intended one.
#[derive(Debug)]
pub struct Mapped {
    /// Minor number: the device is `/dev/dm-MINOR`.
    minor: u32,
}

/// Maps the volume as [`NAME`]. Removes the mapping again if it is not the intended one.
///
/// # Errors
/// `mapping-failed`, `mapping-unreadable`, `mapping-differs`.
pub fn activate(
    _proof: &Fenced,
    verified: &Verified,
    snapshot: &Snapshot,
    candidate: &Candidate,
    root: &Path,
) -> Result<Mapped, ActivateError> {
    let mut volume = Detached::load(&verified.header, Some(&candidate.path)).map_err(ActivateError::Map)?;
    volume.activate(NAME, &verified.key, candidate.read_only).map_err(ActivateError::Map)?;
    let checked =
        dm::table(&root.join("dev/mapper/control"), NAME).map_err(ActivateError::ReadBack).and_then(|live| {
            let intended = table::Intended::new(snapshot, candidate);
            intended.compare(&live).map_err(ActivateError::Differs).map(|()| Mapped { minor: live.minor })
        });
    if checked.is_err() {
        volume.deactivate(NAME).map_err(ActivateError::Remove)?;
    }
    checked
}

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// libcryptsetup or the kernel refused the mapping.
    #[error("Mapping the volume as {NAME}")]
    Map(#[source] CryptError),
    /// The table could not be read back.
    #[error("Reading the device-mapper table back")]
    ReadBack(#[source] io::Error),
    /// The kernel's mapping differs from the intended one.
    #[error("The kernel's mapping is not the intended one")]
    Differs(#[source] Difference),
    /// A mapping that must not stay could not be removed.
    #[error("Removing a mapping that is not the intended one")]
    Remove(#[source] CryptError),
    /// `/dev/mapper/root` could not be made a link.
    #[error("Publishing /dev/mapper/{NAME}")]
    Publish(#[source] io::Error),
}

failures! { ActivateError:
    Self::Map(_) => "mapping-failed", Os, "Are the modules dm_mod, dm_crypt, xts and aes in the initramfs?";
    Self::ReadBack(_) => "mapping-unreadable", Os, "";
    Self::Differs(_) => "mapping-differs", Data, "";
    Self::Remove(_) => "mapping-not-removed", Os, "";
    Self::Publish(_) => "publish-failed", Os, "";
}

/// The name of the mapping, the same as systemd's: `/dev/mapper/root`, measured as `cryptsetup:root:…`.
pub const NAME: &str = "root";
