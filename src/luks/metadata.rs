//! The metadata of a volume: the strictly parsed JSON area comes in, and only what our allow-list knows goes out. The
//! host wrote all of it. What this module accepts, the rest of the program relies on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::binary_header::HeaderSize;
use super::digest::{Coverage, Digest};
use super::error::{HeaderError, Refusal};
use super::flags::{Flag, FlagSet};
use super::keyslot::{AREA_ALIGNMENT, Keyslot};
use super::members::Members;
use super::segment::{self, Room, Segment};

/// What a LUKS2 volume's JSON says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The keyslots that hold the volume key, by number.
    pub keyslots: BTreeMap<u32, Keyslot>,
    /// The data.
    pub segment: Segment,
    /// The volume key's digest.
    pub digest: Digest,
    /// The tokens, by number: objects, otherwise not looked at.
    pub tokens: BTreeMap<u32, Value>,
    /// Activation flags; all of them allowed.
    pub flags: FlagSet,
}

/// What the metadata must fit into.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of one copy of the header.
    pub header: HeaderSize,
    /// Bytes of the volume.
    pub volume: u64,
    /// Bytes of the device's logical sector.
    pub sector_size: u32,
}

impl Metadata {
    /// Reads the tree of a JSON area.
    ///
    /// # Errors
    /// Anything that is not on the allow-list.
    pub fn parse(json: &Value, bounds: Bounds, allowed: &FlagSet) -> Result<Self, HeaderError> {
        let mut top = Members::of("", json)?;
        let areas = Areas::parse(top.object("config")?, bounds, allowed)?;
        let segments = top.object("segments")?.numbered()?;
        for (number, value) in &segments {
            segment::check_type(&format!("segments.{number}"), value)?;
        }
        let mut segments = segments.into_iter();
        let (Some((segment_number, segment)), None) = (segments.next(), segments.next()) else {
            return Err(Refusal::SegmentCount.at("segments"));
        };

        let mut keyslots = numbered(top.object("keyslots")?, "keyslots", Keyslot::parse)?;
        areas.check(&keyslots)?;
        let digests = numbered(top.object("digests")?, "digests", Digest::parse)?;
        let (digest, members) = covering(digests, &keyslots, segment_number)?;
        // Keyslots of other keys (cryptsetup's "unbound" ones) have been checked, but are of no use to us.
        keyslots.retain(|number, _| members.contains(number));
        let key_size = common_key_size(&keyslots)?;

        let at = format!("segments.{segment_number}");
        let segment = Segment::parse(&at, segment, key_size)?;
        segment.check_range(
            &at,
            Room { start: areas.end, end: bounds.volume, sector_size: bounds.sector_size },
        )?;
        let tokens = numbered(top.object("tokens")?, "tokens", |at, value| {
            Members::of(at, value).map(|_| value.clone())
        })?;
        top.finish()?;
        Ok(Self { keyslots, segment, digest, tokens, flags: areas.flags })
    }
}

/// `config`: where keyslot areas may lie, and the flags.
struct Areas {
    start: u64,
    end: u64,
    flags: FlagSet,
}

impl Areas {
    fn parse(mut config: Members<'_>, bounds: Bounds, allowed: &FlagSet) -> Result<Self, HeaderError> {
        if config.optional("requirements").is_some() {
            return Err(Refusal::Requirements.at(config.at("requirements")));
        }
        if config.decimal("json_size")? != bounds.header.json_bytes() {
            return Err(Refusal::AreaSize.at(config.at("json_size")));
        }
        let size = config.decimal("keyslots_size")?;
        let start = bounds.header.bytes().saturating_mul(2);
        let end = start.checked_add(size).filter(|end| *end <= bounds.volume);
        let end = end
            .filter(|_| size.is_multiple_of(AREA_ALIGNMENT) && size <= KEYSLOTS_LIMIT)
            .ok_or_else(|| Refusal::AreaSize.at(config.at("keyslots_size")))?;
        let mut flags = FlagSet::default();
        if let Some(value) = config.optional("flags") {
            flags = parse_flags(&config.at("flags"), value)?;
            if !flags.is_within(allowed) {
                return Err(Refusal::Flag.at(config.at("flags")));
            }
        }
        config.finish()?;
        Ok(Self { start, end, flags })
    }

    fn check(&self, keyslots: &BTreeMap<u32, Keyslot>) -> Result<(), HeaderError> {
        let mut taken: Vec<(u64, u64, u32)> = Vec::new();
        for (number, keyslot) in keyslots {
            let area = keyslot.area;
            let end = area.end().filter(|end| area.offset >= self.start && *end <= self.end);
            let end = end.ok_or_else(|| Refusal::AreaRange.at(format!("keyslots.{number}.area")))?;
            taken.push((area.offset, end, *number));
        }
        taken.sort_unstable();
        let mut free = self.start;
        for (start, end, number) in taken {
            if start < free {
                return Err(Refusal::AreaOverlap.at(format!("keyslots.{number}.area")));
            }
            free = end;
        }
        Ok(())
    }
}

fn parse_flags(at: &str, value: &Value) -> Result<FlagSet, HeaderError> {
    let names = value.as_array().ok_or_else(|| super::members::wrong(at.to_owned(), "is not an array"))?;
    let mut flags = BTreeSet::new();
    for name in names {
        let flag = name.as_str().and_then(Flag::from_name).ok_or_else(|| Refusal::Flag.at(at))?;
        if !flags.insert(flag) {
            return Err(super::members::wrong(at.to_owned(), "has the same item twice"));
        }
    }
    Ok(flags.into_iter().collect())
}

fn numbered<T>(
    members: Members<'_>,
    path: &str,
    parse: impl Fn(&str, &Value) -> Result<T, HeaderError>,
) -> Result<BTreeMap<u32, T>, HeaderError> {
    let entry = |(number, value)| parse(&format!("{path}.{number}"), value).map(|parsed| (number, parsed));
    members.numbered()?.into_iter().map(entry).collect()
}

/// The one digest of the segment, and the keyslots that hold its key. A keyslot belongs to at most one digest.
fn covering(
    digests: BTreeMap<u32, (Digest, Coverage)>,
    keyslots: &BTreeMap<u32, Keyslot>,
    segment: u32,
) -> Result<(Digest, BTreeSet<u32>), HeaderError> {
    let mut found = None;
    let mut assigned = BTreeSet::new();
    for (number, (digest, coverage)) in digests {
        let refuse = || Refusal::DigestCount.at(format!("digests.{number}"));
        if !coverage.keyslots.iter().all(|slot| keyslots.contains_key(slot) && assigned.insert(*slot)) {
            return Err(refuse());
        }
        if coverage.segments.is_empty() {
            continue;
        }
        if coverage.segments != BTreeSet::from([segment]) || found.is_some() {
            return Err(refuse());
        }
        found = Some((digest, coverage.keyslots));
    }
    found.ok_or_else(|| Refusal::DigestCount.at("digests"))
}

/// All keyslots of one volume key say the same size of it.
fn common_key_size(keyslots: &BTreeMap<u32, Keyslot>) -> Result<u32, HeaderError> {
    let mut sizes = keyslots.iter().map(|(number, keyslot)| (number, keyslot.key_size));
    let (_, first) = sizes.next().ok_or_else(|| Refusal::NoKeyslot.at("keyslots"))?;
    match sizes.find(|(_, size)| *size != first) {
        None => Ok(first),
        Some((number, _)) => Err(Refusal::KeySize.at(format!("keyslots.{number}.key_size"))),
    }
}

/// Bytes of the largest keyslots area (on-disk format specification 1.1.4, 3.5).
const KEYSLOTS_LIMIT: u64 = 128 << 20;

#[cfg(test)]
#[path = "tests/metadata.rs"]
mod tests;
