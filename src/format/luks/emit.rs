//! Writes the canonical header, the only LUKS2 metadata that libcryptsetup ever sees: one keyslot, one
//! segment, one digest and no token, all from typed values. It exists in memory only, never on a disk.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::binary_header;
use super::binary_header::{HeaderSize, SECTOR};
use super::keyslot::{Area, Keyslot};
use super::{Flag, KeyslotArea, Segment, SegmentSize, Snapshot};

/// A detached header whose only keyslot is that of `area`, numbered 0: both copies and the keyslot area. The
/// segment keeps its offset on the data device and gets a fixed size. Equal values give equal bytes.
#[must_use]
pub fn canonical_header(snapshot: &Snapshot, area: &KeyslotArea) -> Vec<u8> {
    let json = metadata(snapshot, area.keyslot()).to_string();
    let mut header = copy(snapshot, &json, binary_header::MAGIC_PRIMARY, 0);
    header.append(&mut copy(snapshot, &json, binary_header::MAGIC_SECONDARY, SIZE.bytes()));
    header.extend_from_slice(area.bytes());
    header
}

fn metadata(snapshot: &Snapshot, keyslot: &Keyslot) -> Value {
    let area = Area { offset: SIZE.bytes().saturating_mul(2), ..keyslot.area };
    // Map exactly the bytes that were checked, even if the disk grows meanwhile or ends within a sector.
    let segment = Segment { bytes: SegmentSize::Fixed(snapshot.data_bytes()), ..*snapshot.segment() };
    let flags: Vec<_> = snapshot.flags().iter().map(Flag::name).collect();
    json!({
        "keyslots": {"0": Keyslot { area, ..keyslot.clone() }.to_json()},
        "tokens": {},
        "segments": {"0": segment.to_json()},
        "digests": {"0": snapshot.digest().to_json()},
        "config": {
            "json_size": SIZE.json_bytes().to_string(),
            "keyslots_size": area.size.to_string(),
            "flags": flags,
        },
    })
}

/// One copy: the binary header with its checksum, the JSON, and NULs.
fn copy(snapshot: &Snapshot, json: &str, magic: [u8; 6], offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&binary_header::VERSION.to_be_bytes());
    bytes.extend_from_slice(&SIZE.bytes().to_be_bytes());
    bytes.extend_from_slice(&snapshot.seqid().to_be_bytes());
    field(&mut bytes, "", 48);
    field(&mut bytes, "sha256", 32);
    // On disks, a salt makes checksums of equal headers differ. This header never reaches a disk.
    field(&mut bytes, "", 64);
    field(&mut bytes, &snapshot.uuid().to_string(), 40);
    field(&mut bytes, "", 48);
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.resize(SECTOR, 0);
    bytes.extend_from_slice(json.as_bytes());
    // Never truncates: one keyslot, one segment and one digest need about 1.5 of the 12 KiB.
    bytes.resize(usize::try_from(SIZE.bytes()).unwrap_or(0), 0);
    let checksum = Sha256::digest(&bytes);
    let place = bytes.iter_mut().skip(binary_header::CHECKSUM_AT);
    place.zip(checksum).for_each(|(byte, sum)| *byte = sum);
    bytes
}

fn field(bytes: &mut Vec<u8>, text: &str, length: usize) {
    let end = bytes.len().saturating_add(length);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(end, 0);
}

/// The smallest size of a copy: 16 KiB.
const SIZE: HeaderSize = HeaderSize::MIN;

#[cfg(test)]
mod tests;
