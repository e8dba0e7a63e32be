//! The library's view of a volume's metadata.

use cvm_unlock::base::error::Failure;
use cvm_unlock::format::luks::{FlagSet, Snapshot};

use super::volumes::VOLUME;

/// Reads the metadata as a boot does; an error is the slug of the refusal.
pub fn read(volume: &[u8]) -> Result<Snapshot, &'static str> {
    Snapshot::read(volume, VOLUME, 512, &FlagSet::default()).map_err(|error| error.slug())
}
