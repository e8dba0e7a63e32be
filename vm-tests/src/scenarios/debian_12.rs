//! The oldest distribution that we support: its dracut builds the initramfs with our module, its kernel and
//! systemd run it, and its userspace starts from the unlocked root.

use anyhow::Result;

use crate::artefacts::suite::Suite;
use crate::lab::Lab;
use crate::scenarios::attested::Fixture;
use crate::scenarios::demo;

/// Two boots: to a script as PID 1, then to systemd's multi-user.target.
///
/// # Errors
/// When the root is not reached, or PCR 15 holds something else than the volume's measurement.
pub fn run(lab: &Lab) -> Result<()> {
    demo::whole(&lab.of(Suite::Bookworm)).map(drop)
}

/// The fallback to a key broker, with its dracut's network and its systemd-networkd.
///
/// # Errors
/// When the root is not reached, or not by the broker's key.
pub fn attested(lab: &Lab) -> Result<()> {
    let lab = lab.of(Suite::Bookworm);
    Fixture::new(&lab)?.fallback(&lab).map(drop)
}
