//! Keeps the process's memory out of swap, core dumps and the reach of other processes.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

use crate::base::error::failures;

/// Locks all present and future pages, and forbids core dumps and `ptrace` by other processes of the same
/// user. Call it before the first secret exists.
///
/// # Errors
/// The first protection that the kernel refused; the others are in place.
pub fn lock() -> Result<(), MemoryError> {
    let core = setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(MemoryError::CoreLimit);
    let dumpable = set_dumpable(false).map_err(MemoryError::Dumpable);
    // On fault: pages that are never touched need not be read in, so that cold parts of the executable cost
    // nothing.
    let on_fault = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
    let locked = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)
        .map_err(MemoryError::Lock);
    core.and(dumpable).and(locked)
}

/// Which protection the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// `setrlimit(RLIMIT_CORE)`.
    #[error("Forbidding core dumps")]
    CoreLimit(#[source] nix::Error),
    /// `prctl(PR_SET_DUMPABLE)`.
    #[error("Making the process undumpable")]
    Dumpable(#[source] nix::Error),
    /// `mlockall`.
    #[error("Locking the process's memory")]
    Lock(#[source] nix::Error),
}

failures! { MemoryError:
    Self::CoreLimit(_) | Self::Dumpable(_) | Self::Lock(_) => "memory-not-locked", Os,
        "The unit sets LimitMEMLOCK=infinity; outside it, run as root";
}
