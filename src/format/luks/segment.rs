//! Parses the one data segment of a volume: where the data lies and how it is encrypted.

use serde_json::{Value, json};

use super::cipher::Cipher;
use super::error::{HeaderError, HeaderRefusal};
use super::members::{Members, decimal, wrong};

/// The encrypted data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes from the start of the volume to the data.
    pub offset: u64,
    /// Length of the data.
    pub bytes: SegmentSize,
    /// The cipher; it fixes the volume key's size.
    pub cipher: Cipher,
    /// Bytes of one encryption sector: 512, 1024, 2048 or 4096.
    pub sector_size: u32,
}

/// How long a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentSize {
    /// Up to the last whole sector of the volume, however large the volume is.
    Dynamic,
    /// A number of bytes.
    Fixed(u64),
}

/// What a segment must fit into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes from the start of the volume to the end of its keyslots area.
    pub(super) start: u64,
    /// Bytes of the volume.
    pub(super) end: u64,
    /// Bytes of the device's logical sector.
    pub(super) sector_size: u32,
}

impl Segment {
    /// Bytes of data on a volume of `volume` bytes; `None` if the segment does not fit. A dynamic segment
    /// ends at the last whole encryption sector, since a partition may grow by any number of the disk's
    /// smaller sectors.
    #[must_use]
    pub fn length(&self, volume: u64) -> Option<u64> {
        let available = volume.checked_sub(self.offset)?;
        match self.bytes {
            SegmentSize::Dynamic => {
                let beyond = available.checked_rem(u64::from(self.sector_size))?;
                available.checked_sub(beyond)
            }
            SegmentSize::Fixed(bytes) => Some(bytes).filter(|bytes| *bytes <= available),
        }
    }

    /// Parses the segment's object. The size of the volume key comes from the keyslots.
    pub(super) fn parse(path: &str, value: &Value, key_size: u32) -> Result<Self, HeaderError> {
        let mut members = Members::of(path, value)?;
        // `check_type` has checked the type of every segment.
        members.text("type")?;
        if members.optional("integrity").is_some() {
            return Err(HeaderRefusal::Integrity.at(members.at("integrity")));
        }
        if members.optional("flags").is_some() {
            return Err(HeaderRefusal::SegmentFlags.at(members.at("flags")));
        }
        let cipher = Cipher::parse(members.text("encryption")?, key_size)
            .map_err(|refusal| refusal.at(members.at("encryption")))?;
        if members.decimal("iv_tweak")? != 0 {
            return Err(HeaderRefusal::IvTweak.at(members.at("iv_tweak")));
        }
        let sector_size = members.number("sector_size")?;
        if !SECTOR_SIZES.contains(&sector_size) {
            return Err(HeaderRefusal::SectorSize.at(members.at("sector_size")));
        }
        let offset = members.decimal("offset")?;
        let bytes = match members.text("size")? {
            "dynamic" => SegmentSize::Dynamic,
            text => SegmentSize::Fixed(
                decimal(text)
                    .ok_or_else(|| wrong(members.at("size"), "is not a canonical decimal string"))?,
            ),
        };
        members.finish()?;
        Ok(Self { offset, bytes, cipher, sector_size })
    }

    /// Refuses a segment that does not lie in `room`.
    pub(super) fn check_range(&self, path: &str, room: Room) -> Result<(), HeaderError> {
        let sector = u64::from(self.sector_size);
        let alignment = u64::from(room.sector_size.max(512));
        let fits = self.offset >= room.start
            && self.offset.is_multiple_of(alignment)
            && self.length(room.end).is_some_and(|length| length > 0 && length.is_multiple_of(sector));
        if fits { Ok(()) } else { Err(HeaderRefusal::SegmentRange.at(path)) }
    }

    /// The segment in the header's form.
    pub(super) fn to_json(self) -> Value {
        let size = match self.bytes {
            SegmentSize::Dynamic => "dynamic".to_owned(),
            SegmentSize::Fixed(bytes) => bytes.to_string(),
        };
        json!({
            "type": "crypt",
            "offset": self.offset.to_string(),
            "size": size,
            "iv_tweak": "0",
            "encryption": self.cipher.specification(),
            "sector_size": self.sector_size,
        })
    }
}

/// Refuses segments of types that we do not open.
pub(super) fn check_type(path: &str, value: &Value) -> Result<(), HeaderError> {
    let mut members = Members::of(path, value)?;
    match members.text("type")? {
        "crypt" => Ok(()),
        "linear" => Err(HeaderRefusal::SegmentLinear.at(members.at("type"))),
        _ => Err(HeaderRefusal::SegmentType.at(members.at("type"))),
    }
}

/// dm-crypt's encryption sector sizes in bytes (on-disk format specification 1.1.4, 3.3).
const SECTOR_SIZES: [u32; 4] = [512, 1024, 2048, 4096];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use proptest::prelude::*;

    fn parse(change: impl Fn(&mut Value)) -> Result<Segment, &'static str> {
        let mut value = Segment {
            offset: 1 << 24,
            bytes: SegmentSize::Dynamic,
            cipher: Cipher::Aes256Xts,
            sector_size: 512,
        }
        .to_json();
        change(&mut value);
        check_type("s", &value).and_then(|()| Segment::parse("s", &value, 64)).map_err(|error| error.slug())
    }

    #[test]
    fn every_change_to_something_else_is_refused_by_its_slug() {
        assert!(parse(|_| ()).is_ok());
        let table = [
            ("encryption", json!("cipher_null-ecb"), "luks-cipher-null"),
            ("encryption", json!("serpent-xts-plain64"), "luks-cipher"),
            ("type", json!("linear"), "luks-segment-linear"),
            ("type", json!("hw-opal"), "luks-segment-type"),
            ("iv_tweak", json!("1"), "luks-iv-tweak"),
            ("iv_tweak", json!(0), "luks-metadata"),
            ("sector_size", json!(8192), "luks-sector-size"),
            ("sector_size", json!("512"), "luks-metadata"),
            ("integrity", json!({"type": "hmac(sha256)"}), "luks-integrity"),
            ("flags", json!(["backup-final"]), "luks-segment-flags"),
            ("size", json!("0512"), "luks-metadata"),
            ("offset", json!(16_777_216), "luks-metadata"),
            ("unknown", json!(1), "luks-metadata"),
        ];
        for (name, value, slug) in table {
            assert_eq!(parse(|segment| segment[name] = value.clone()), Err(slug), "{name}");
        }
    }

    #[test]
    fn a_segment_lies_behind_the_header_and_inside_the_volume() {
        let room = Room { start: 1 << 24, end: 1 << 25, sector_size: 512 };
        let check = |offset: u64, bytes| {
            Segment { offset, bytes, cipher: Cipher::Aes256Xts, sector_size: 4096 }
                .check_range("s", room)
                .is_ok()
        };
        let start = 1 << 24;
        assert!(check(start, SegmentSize::Dynamic));
        assert!(check(start, SegmentSize::Fixed(start)));
        assert!(!check(start - 512, SegmentSize::Dynamic), "over the header");
        assert!(!check(start, SegmentSize::Fixed(start + 4096)), "beyond the end");
        assert!(!check(start, SegmentSize::Fixed(0)), "empty");
        assert!(!check(start, SegmentSize::Fixed(512)), "half a sector");
        assert!(!check(start + 100, SegmentSize::Fixed(4096)), "not aligned");
        assert!(!check(1 << 25, SegmentSize::Dynamic), "at the end");
        assert!(!check(u64::MAX, SegmentSize::Fixed(u64::MAX)), "wraps");
    }

    #[test]
    fn a_dynamic_segment_ends_at_the_last_whole_sector_wherever_the_volume_ends() {
        let start = 1 << 24;
        for sector_size in SECTOR_SIZES {
            let sector = u64::from(sector_size);
            for beyond in 0..8 {
                let end = start + 8 * 4096 + beyond * 512;
                let segment = Segment {
                    offset: start,
                    bytes: SegmentSize::Dynamic,
                    cipher: Cipher::Aes256Xts,
                    sector_size,
                };
                assert!(segment.check_range("s", Room { start, end, sector_size: 512 }).is_ok());
                let length = segment.length(end).unwrap();
                assert!(length.is_multiple_of(sector) && start + length <= end);
                assert!(end - (start + length) < sector, "{sector_size}, {beyond} sectors beyond");
            }
            let fixed = |bytes| Segment {
                offset: start,
                bytes: SegmentSize::Fixed(bytes),
                cipher: Cipher::Aes256Xts,
                sector_size,
            };
            let room = Room { start, end: start << 1, sector_size: 512 };
            assert!(fixed(sector).check_range("s", room).is_ok());
            assert!(fixed(sector + sector / 2).check_range("s", room).is_err(), "a fixed one is as it says");
            let less = Room { end: start + sector - 1, ..room };
            let none = Segment { bytes: SegmentSize::Dynamic, ..fixed(0) };
            assert!(none.check_range("s", less).is_err(), "not one sector");
        }
    }

    proptest! {
        #[test]
        fn parse_and_emit_are_inverse(offset: u64, size: Option<u64>, sector in 0..4_usize, wide: bool) {
            let segment = Segment {
                offset,
                bytes: size.map_or(SegmentSize::Dynamic, SegmentSize::Fixed),
                cipher: if wide { Cipher::Aes256Xts } else { Cipher::Aes128Xts },
                sector_size: SECTOR_SIZES[sector],
            };
            let parsed = Segment::parse("s", &segment.to_json(), segment.cipher.key_size()).unwrap();
            prop_assert_eq!(parsed, segment);
        }
    }
}
