//! Parses a keyslot: the volume key, encrypted under a passphrase.
//!
//! Of a keyslot that is not tried, only the number and the place matter ([`Entry`]): a recovery passphrase
//! may have any cost and cipher that cryptsetup supports. A keyslot that is tried is checked in full
//! ([`Keyslot`]).

use serde_json::{Value, json};

use super::cipher::{Cipher, Hash};
use super::error::{HeaderError, HeaderRefusal};
use super::kdf;
use super::kdf::Kdf;
use super::members::Members;

/// A keyslot as the header lists it: its place is checked, its other parameters are not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bytes from the start of the volume to the area.
    pub offset: u64,
    /// Bytes of the area.
    pub size: u64,
    /// Bytes of the key that it holds.
    pub key_size: u32,
    path: String,
    json: Value,
}

/// The parameters of a keyslot of type `luks2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyslot {
    /// Bytes of the key that it holds.
    pub key_size: u32,
    /// The hash of the anti-forensic split.
    pub split_hash: Hash,
    /// Where the encrypted key lies.
    pub area: Area,
    /// How the passphrase becomes the area's key.
    pub kdf: Kdf,
}

/// A keyslot's encrypted bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Bytes from the start of the volume.
    pub offset: u64,
    /// Bytes, at most [`AREA_LIMIT`].
    pub size: u64,
    /// The cipher of the area; the data's is the segment's.
    pub cipher: Cipher,
}

impl Entry {
    pub(super) fn parse(path: &str, value: &Value) -> Result<Self, HeaderError> {
        let mut members = Members::of(path, value)?;
        if members.text("type")? == "reencrypt" {
            return Err(HeaderRefusal::Reencrypt.at(path));
        }
        let key_size = members.number("key_size")?;
        let mut area = members.object("area")?;
        let (offset, size) = (area.decimal("offset")?, area.decimal("size")?);
        Ok(Self { offset, size, key_size, path: path.to_owned(), json: value.clone() })
    }

    /// Checks all parameters, for a keyslot that is to be tried.
    ///
    /// # Errors
    /// The first parameter that is not on the allow-list.
    pub fn judge(&self) -> Result<Keyslot, HeaderError> {
        Keyslot::parse(&self.path, &self.json)
    }

    /// First byte behind the area; `None` if that is beyond 64 bits.
    #[must_use]
    pub const fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.size)
    }
}

impl Keyslot {
    pub(super) fn parse(path: &str, value: &Value) -> Result<Self, HeaderError> {
        let mut members = Members::of(path, value)?;
        if members.text("type")? != "luks2" {
            return Err(HeaderRefusal::KeyslotType.at(members.at("type")));
        }
        let key_size = members.number("key_size")?;
        if !matches!(key_size, 1..=KEY_LIMIT) {
            return Err(HeaderRefusal::KeySize.at(members.at("key_size")));
        }
        let split_hash = split(members.object("af")?)?;
        let area = Area::parse(members.object("area")?)?;
        if area.size < split_bytes(key_size) {
            return Err(HeaderRefusal::AreaRange.at(path));
        }
        let kdf = Kdf::parse(members.object("kdf")?)?;
        // 0 to 2. We ignore it: the header does not decide the order in which keyslots are tried.
        let priority = members.at("priority");
        if members.optional("priority").is_some_and(|value| value.as_u64().is_none_or(|number| number > 2)) {
            return Err(super::members::wrong(priority, "is not 0, 1 or 2"));
        }
        members.finish()?;
        Ok(Self { key_size, split_hash, area, kdf })
    }

    /// The keyslot in the header's form.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "type": "luks2",
            "key_size": self.key_size,
            "af": {"type": "luks1", "stripes": STRIPES, "hash": self.split_hash.name()},
            "area": {
                "type": "raw",
                "offset": self.area.offset.to_string(),
                "size": self.area.size.to_string(),
                "encryption": self.area.cipher.specification(),
                "key_size": self.area.cipher.key_size(),
            },
            "kdf": self.kdf.to_json(),
        })
    }
}

impl Area {
    fn parse(mut members: Members<'_>) -> Result<Self, HeaderError> {
        if members.text("type")? != "raw" {
            return Err(HeaderRefusal::KeyslotType.at(members.at("type")));
        }
        let specification = members.text("encryption")?;
        let cipher = Cipher::parse(specification, members.number("key_size")?)
            .map_err(|refusal| refusal.at(members.at("encryption")))?;
        let (offset, size) = (members.decimal("offset")?, members.decimal("size")?);
        let aligned = offset.is_multiple_of(AREA_ALIGNMENT) && size.is_multiple_of(AREA_ALIGNMENT);
        if !aligned || size == 0 || size > AREA_LIMIT {
            return Err(HeaderRefusal::AreaRange.at(members.at("size")));
        }
        members.finish()?;
        Ok(Self { offset, size, cipher })
    }
}

/// Bytes of a key of `key_size` bytes after the anti-forensic split.
#[must_use]
pub fn split_bytes(key_size: u32) -> u64 {
    u64::from(key_size).saturating_mul(u64::from(STRIPES))
}

fn split(mut members: Members<'_>) -> Result<Hash, HeaderError> {
    if members.text("type")? != "luks1" || members.number("stripes")? != STRIPES {
        return Err(HeaderRefusal::Split.at(members.at("stripes")));
    }
    let hash = kdf::hash(&mut members)?;
    members.finish()?;
    Ok(hash)
}

/// Stripes of the anti-forensic split, the only number in the specification (1.1.4, 3.2.2).
pub(super) const STRIPES: u32 = 4000;
/// Bytes of the longest key in a keyslot; only authenticated encryption has longer ones.
const KEY_LIMIT: u32 = 128;
/// Bytes; cryptsetup's alignment of keyslot areas.
pub(super) const AREA_ALIGNMENT: u64 = 4096;
/// Bytes; a key of 64 bytes is split into 250 KiB.
pub const AREA_LIMIT: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;

    fn keyslot() -> Keyslot {
        Keyslot {
            key_size: 64,
            split_hash: Hash::Sha256,
            area: Area { offset: 0x8000, size: 258_048, cipher: Cipher::Aes256Xts },
            kdf: Kdf::Pbkdf2 { hash: Hash::Sha512, iterations: 1000, salt: [1; 32] },
        }
    }

    #[test]
    fn parse_and_emit_are_inverse() {
        assert_eq!(Keyslot::parse("k", &keyslot().to_json()).unwrap(), keyslot());
    }

    #[test]
    fn every_change_to_something_else_is_refused_by_its_slug() {
        let table = [
            ("/area/encryption", json!("cipher_null-ecb"), "luks-cipher-null"),
            ("/area/encryption", json!("aes-cbc-plain64"), "luks-cipher"),
            ("/area/key_size", json!(16), "luks-key-size"),
            ("/area/size", json!("253952"), "luks-area-range"),
            ("/area/size", json!("2097152"), "luks-area-range"),
            ("/area/size", json!("0"), "luks-area-range"),
            ("/area/offset", json!("32769"), "luks-area-range"),
            ("/area/type", json!("datashift"), "luks-keyslot-type"),
            ("/af/stripes", json!(1), "luks-split"),
            ("/af/type", json!("none"), "luks-split"),
            ("/af/hash", json!("md5"), "luks-hash"),
            ("/type", json!("reencrypt"), "luks-keyslot-type"),
            ("/type", json!("luks3"), "luks-keyslot-type"),
            ("/key_size", json!(0), "luks-key-size"),
            ("/key_size", json!(u32::MAX), "luks-key-size"),
            ("/kdf/type", json!("none"), "luks-kdf"),
        ];
        for (pointer, value, slug) in table {
            let mut json = keyslot().to_json();
            *json.pointer_mut(pointer).unwrap() = value;
            assert_eq!(Keyslot::parse("k", &json).unwrap_err().slug(), slug, "{pointer}");
        }
    }

    #[test]
    fn of_a_keyslot_that_is_not_tried_only_type_place_and_key_size_matter() {
        let entry = |pointer: &str, value: Value| {
            let mut json = keyslot().to_json();
            *json.pointer_mut(pointer).unwrap() = value;
            Entry::parse("k", &json).map_err(|error| error.slug())
        };
        for (pointer, value) in [
            ("/area/encryption", json!("cipher_null-ecb")),
            ("/area/key_size", json!(16)),
            ("/af/hash", json!("md5")),
            ("/kdf", json!({"type": "argon2id", "time": 4, "memory": 4_194_304, "cpus": 4, "salt": "AAAA"})),
            ("/type", json!("of-tomorrow")),
            ("/key_size", json!(256)),
        ] {
            let entry = entry(pointer, value).unwrap();
            assert_eq!((entry.offset, entry.end()), (0x8000, Some(0x8000 + 258_048)));
            assert!(entry.judge().is_err(), "{pointer}");
        }
        assert_eq!(entry("/type", json!("luks2")).unwrap().judge().unwrap(), keyslot());
        assert_eq!(entry("/type", json!("reencrypt")), Err("luks-reencrypt"));
        assert_eq!(entry("/area/offset", json!(1)), Err("luks-metadata"));
        assert_eq!(entry("/area", json!([])), Err("luks-metadata"));
        assert_eq!(entry("/key_size", json!("64")), Err("luks-metadata"));
    }

    #[test]
    fn priority_is_tolerated_and_unknown_members_are_not() {
        let mut json = keyslot().to_json();
        json["priority"] = json!(2);
        assert!(Keyslot::parse("k", &json).is_ok());
        json["priority"] = json!(3);
        assert_eq!(Keyslot::parse("k", &json).unwrap_err().slug(), "luks-metadata");
        let mut json = keyslot().to_json();
        json["mode"] = json!("clear");
        assert_eq!(Keyslot::parse("k", &json).unwrap_err().slug(), "luks-metadata");
    }
}
