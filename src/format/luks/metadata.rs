//! Parses a volume's metadata from its untrusted JSON area. Everything that we use is on the allow-list, and
//! the rest of the program relies on that. Keyslots and tokens that we do not try may be anything that
//! cryptsetup writes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::binary_header::HeaderSize;
use super::digest::{Coverage, Digest};
use super::error::{HeaderError, HeaderRefusal};
use super::flags::{Flag, FlagSet};
use super::keyslot::{AREA_ALIGNMENT, Entry};
use super::members;
use super::members::{Members, wrong};
use super::segment;
use super::segment::{Room, Segment};
use super::token_type;
use crate::base::json::Json;
use crate::base::text::excerpt;

/// The contents of a LUKS2 volume's JSON area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The keyslots that hold the volume key, by number. Each is checked in full when it is tried.
    pub keyslots: BTreeMap<u32, Entry>,
    /// The data segment.
    pub segment: Segment,
    /// The volume key's digest.
    pub digest: Digest,
    /// The tokens by number: complete for the types that we support, `type` and `keyslots` only for others.
    pub tokens: BTreeMap<u32, Value>,
    /// Activation flags, all of them allowed by the configuration.
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
    /// Parses the tree of a JSON area.
    ///
    /// # Errors
    /// The first thing that is not on the allow-list.
    pub fn parse(json: &Json, bounds: Bounds, allowed: &FlagSet) -> Result<Self, HeaderError> {
        let (top, tokens) = apart(json)?;
        let mut top = Members::of("", &top)?;
        let areas = Areas::parse(top.object("config")?, bounds, allowed)?;
        let segments = top.object("segments")?.numbered()?;
        for (number, value) in &segments {
            segment::check_type(&format!("segments.{number}"), value)?;
        }
        let mut segments = segments.into_iter();
        let (Some((segment_number, segment)), None) = (segments.next(), segments.next()) else {
            return Err(HeaderRefusal::SegmentCount.at("segments"));
        };

        let mut keyslots = numbered(top.object("keyslots")?, "keyslots", Entry::parse)?;
        areas.check(&keyslots)?;
        let (digest, members) = digest(top.object("digests")?, &keyslots, segment_number)?;
        // The others hold other keys (cryptsetup calls them unbound); only their place matters.
        keyslots.retain(|number, _| members.contains(number));
        let key_size = common_key_size(&keyslots)?;

        let at = format!("segments.{segment_number}");
        let segment = Segment::parse(&at, segment, key_size)?;
        segment.check_range(
            &at,
            Room { start: areas.end, end: bounds.volume, sector_size: bounds.sector_size },
        )?;
        top.finish()?;
        Ok(Self { keyslots, segment, digest, tokens, flags: areas.flags })
    }
}

/// Splits the tree into the part that must be strict, and the tokens.
fn apart(json: &Json) -> Result<(Value, BTreeMap<u32, Value>), HeaderError> {
    let object = |json: &'_ Json, at: &str| {
        json.as_object().cloned().ok_or_else(|| wrong(at.to_owned(), "is not an object"))
    };
    let mut top = object(json, "")?;
    let tokens = top.remove(TOKENS.as_bytes()).ok_or_else(|| wrong(TOKENS.to_owned(), "is missing"))?;
    let mut parsed = BTreeMap::new();
    for (name, token) in object(&tokens, TOKENS)? {
        let name = String::from_utf8_lossy(&name);
        let at = format!("{TOKENS}.{}", excerpt(&name));
        let number = members::id(&name);
        let number = number.ok_or_else(|| wrong(at.clone(), "is not an object number below 32"))?;
        object(&token, &at)?;
        parsed.insert(number, readable(&token)?);
    }
    Ok((Json::Object(top).strict()?, parsed))
}

/// A token in strict form if we support its type. Of another type only `type` and `keyslots`: the rest may be
/// anything.
fn readable(token: &Json) -> Result<Value, HeaderError> {
    let member = |name: &str| token.as_object()?.get(name.as_bytes());
    match member("type") {
        Some(Json::Text(kind)) if !token_type::ALL.iter().any(|ours| ours.as_bytes() == kind.as_slice()) => {
            let keyslots = member("keyslots").and_then(|keyslots| keyslots.strict().ok());
            let mut summary = serde_json::Map::new();
            summary.insert("type".to_owned(), excerpt(&String::from_utf8_lossy(kind)).into());
            summary.extend(keyslots.map(|keyslots| ("keyslots".to_owned(), keyslots)));
            Ok(Value::Object(summary))
        }
        _ => Ok(token.strict()?),
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
            return Err(HeaderRefusal::Requirements.at(config.at("requirements")));
        }
        if config.decimal("json_size")? != bounds.header.json_bytes() {
            return Err(HeaderRefusal::AreaSize.at(config.at("json_size")));
        }
        let size = config.decimal("keyslots_size")?;
        let start = bounds.header.bytes().saturating_mul(2);
        let end = start.checked_add(size).filter(|end| *end <= bounds.volume);
        let end = end
            .filter(|_| size.is_multiple_of(AREA_ALIGNMENT) && size <= KEYSLOTS_LIMIT)
            .ok_or_else(|| HeaderRefusal::AreaSize.at(config.at("keyslots_size")))?;
        let mut flags = FlagSet::default();
        if let Some(value) = config.optional("flags") {
            flags = parse_flags(&config.at("flags"), value)?;
            if !flags.is_within(allowed) {
                return Err(HeaderRefusal::Flag.at(config.at("flags")));
            }
        }
        config.finish()?;
        Ok(Self { start, end, flags })
    }

    fn check(&self, keyslots: &BTreeMap<u32, Entry>) -> Result<(), HeaderError> {
        let mut taken: Vec<(u64, u64, u32)> = Vec::new();
        for (number, keyslot) in keyslots {
            let end = keyslot.end().filter(|end| keyslot.offset >= self.start && *end <= self.end);
            let end = end.ok_or_else(|| HeaderRefusal::AreaRange.at(format!("keyslots.{number}.area")))?;
            taken.push((keyslot.offset, end, *number));
        }
        taken.sort_unstable();
        let mut free = self.start;
        for (start, end, number) in taken {
            if start < free {
                return Err(HeaderRefusal::AreaOverlap.at(format!("keyslots.{number}.area")));
            }
            free = end;
        }
        Ok(())
    }
}

fn parse_flags(at: &str, value: &Value) -> Result<FlagSet, HeaderError> {
    let names = value.as_array().ok_or_else(|| wrong(at.to_owned(), "is not an array"))?;
    let mut flags = BTreeSet::new();
    for name in names {
        let flag = name.as_str().and_then(Flag::from_name).ok_or_else(|| HeaderRefusal::Flag.at(at))?;
        if !flags.insert(flag) {
            return Err(wrong(at.to_owned(), "has the same item twice"));
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

/// The one digest of the segment, and the keyslots that hold its key. A keyslot belongs to at most one
/// digest.
fn digest(
    digests: Members<'_>,
    keyslots: &BTreeMap<u32, Entry>,
    segment: u32,
) -> Result<(Digest, BTreeSet<u32>), HeaderError> {
    let mut found = None;
    let mut assigned = BTreeSet::new();
    for (number, value) in digests.numbered()? {
        let path = format!("digests.{number}");
        let coverage = Coverage::parse(&path, value)?;
        let refuse = || HeaderRefusal::DigestCount.at(path.as_str());
        if !coverage.keyslots.iter().all(|slot| keyslots.contains_key(slot) && assigned.insert(*slot)) {
            return Err(refuse());
        }
        if coverage.segments.is_empty() {
            continue;
        }
        if coverage.segments != BTreeSet::from([segment]) || found.is_some() {
            return Err(refuse());
        }
        found = Some((Digest::parse(&path, value)?, coverage.keyslots));
    }
    found.ok_or_else(|| HeaderRefusal::DigestCount.at("digests"))
}

/// The key size, which must be the same in all keyslots of the volume key.
fn common_key_size(keyslots: &BTreeMap<u32, Entry>) -> Result<u32, HeaderError> {
    let mut sizes = keyslots.iter().map(|(number, keyslot)| (number, keyslot.key_size));
    let (_, first) = sizes.next().ok_or_else(|| HeaderRefusal::NoKeyslot.at("keyslots"))?;
    match sizes.find(|(_, size)| *size != first) {
        None => Ok(first),
        Some((number, _)) => Err(HeaderRefusal::KeySize.at(format!("keyslots.{number}.key_size"))),
    }
}

/// The member that holds the tokens.
const TOKENS: &str = "tokens";
/// Bytes of the largest keyslots area (on-disk format specification 1.1.4, 3.5).
const KEYSLOTS_LIMIT: u64 = 128 << 20;

#[cfg(test)]
mod tests;
