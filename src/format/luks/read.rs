//! Reads the two copies of the header, every byte of the disk at most once, so that a host cannot answer a
//! second read differently. (The search for a secondary copy may look for the magic in sectors that turn out
//! to belong to a keyslot area; nothing else is taken from them.)

use super::binary_header::{HeaderSize, Place, SECTOR, Unverified};
use super::copies;
use super::copies::{Condition, Copy};
use super::error::{Damage, HeaderError};
use crate::base::json::Json;
use crate::base::source::Source;

/// Reads both copies from a volume of `size` bytes and chooses one.
pub(super) fn read(source: &(impl Source + ?Sized), size: u64) -> Result<(Copy, Condition), HeaderError> {
    let mut volume = Once { source, size, head: Vec::new() };
    let primary = volume.copy(Place::Primary)?;
    if let Err(Damage::Version(version)) = primary {
        // A LUKS1 volume, not a damaged one, whatever lies behind its header.
        return Err(HeaderError::Version(version));
    }
    let secondary = match &primary {
        Ok(copy) => volume.copy(Place::Secondary(copy.header.size))?,
        Err(_) => volume.search()?,
    };
    copies::choose(primary, secondary)
}

/// A volume whose beginning is cached.
struct Once<'a, S: Source + ?Sized> {
    source: &'a S,
    /// Bytes of the volume.
    size: u64,
    /// What has been read of the primary copy.
    head: Vec<u8>,
}

impl<S: Source + ?Sized> Once<'_, S> {
    /// Reads the copy at `place`. The inner error says that there is none; the outer one ends the search.
    fn copy(&mut self, place: Place) -> Result<Result<Copy, Damage>, HeaderError> {
        let start = match place {
            Place::Primary => 0,
            Place::Secondary(size) => size.bytes(),
        };
        let mut sector = [0; SECTOR];
        if !self.fill(&mut sector, start)? {
            return Ok(Err(Damage::TooSmall));
        }
        if place == Place::Primary {
            self.head.extend_from_slice(&sector);
        }
        let unverified = match Unverified::parse(&sector, place) {
            Ok(unverified) => unverified,
            Err(damage) => return Ok(Err(damage)),
        };
        // At most 4 MiB: the size is one of nine.
        let length = usize::try_from(unverified.size().json_bytes()).unwrap_or(0);
        let mut area = vec![0; length];
        if !self.fill(
            &mut area,
            start.saturating_add(unverified.size().bytes() - unverified.size().json_bytes()),
        )? {
            return Ok(Err(Damage::TooSmall));
        }
        let verified = unverified.verify(&area);
        let copy = match verified {
            Ok(header) => Ok(Copy { header: header?, json: Json::parse_area(&area)? }),
            Err(damage) => Err(damage),
        };
        if place == Place::Primary && copy.is_err() {
            self.head.append(&mut area);
        }
        Ok(copy)
    }

    /// Searches for the secondary copy of a volume whose primary copy is damaged, at every offset in the
    /// specification.
    fn search(&mut self) -> Result<Result<Copy, Damage>, HeaderError> {
        let mut found = Err(Damage::Magic);
        for size in HeaderSize::ALL {
            match (self.copy(Place::Secondary(size))?, &found) {
                (Ok(_), Ok(_)) => return Err(HeaderError::Ambiguous),
                (Ok(copy), Err(_)) => found = Ok(copy),
                (Err(_), _) => {}
            }
        }
        Ok(found)
    }

    /// Fills `buffer` from `start`; `false` if the volume is too short.
    fn fill(&self, buffer: &mut [u8], start: u64) -> Result<bool, HeaderError> {
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        if start.checked_add(length).is_none_or(|end| end > self.size) {
            return Ok(false);
        }
        // A secondary copy inside the extent of a damaged primary lies there entirely: both sizes are powers
        // of two.
        if self.head.as_slice().read_at(buffer, start).is_err() {
            let what = "the LUKS header";
            self.source.read_at(buffer, start).map_err(|source| HeaderError::Read { what, source })?;
        }
        Ok(true)
    }
}
