//! Forges LUKS2 headers: changes any field of a real volume's binary headers or JSON and recomputes the
//! checksums, as anybody can who writes to the disk. Written from the on-disk format specification (1.1.4);
//! shares no code with what it tests.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A volume with its two header copies taken apart.
#[derive(Clone)]
pub struct Forge {
    volume: Vec<u8>,
    /// The copy at the start.
    pub primary: Copy,
    /// The copy behind it.
    pub secondary: Copy,
}

/// One copy of the header.
#[derive(Clone)]
pub struct Copy {
    /// Offset at which it will lie.
    at: usize,
    /// Bytes of binary header and JSON area.
    size: usize,
    /// The binary header.
    sector: [u8; 4096],
    /// The JSON area.
    area: Vec<u8>,
}

/// Fields of the binary header: offset and length in bytes (figure 2 of the specification).
#[derive(Clone, Copy, Debug)]
pub enum Field {
    Magic,
    Version,
    HeaderSize,
    SequenceId,
    Label,
    ChecksumAlgorithm,
    Salt,
    Uuid,
    Subsystem,
    HeaderOffset,
}

impl Field {
    pub const ALL: [Self; 10] = [
        Self::Magic,
        Self::Version,
        Self::HeaderSize,
        Self::SequenceId,
        Self::Label,
        Self::ChecksumAlgorithm,
        Self::Salt,
        Self::Uuid,
        Self::Subsystem,
        Self::HeaderOffset,
    ];

    fn place(self) -> (usize, usize) {
        match self {
            Self::Magic => (0, 6),
            Self::Version => (6, 2),
            Self::HeaderSize => (8, 8),
            Self::SequenceId => (16, 8),
            Self::Label => (24, 48),
            Self::ChecksumAlgorithm => (72, 32),
            Self::Salt => (104, 64),
            Self::Uuid => (168, 40),
            Self::Subsystem => (208, 48),
            Self::HeaderOffset => (256, 8),
        }
    }
}

impl Copy {
    /// The content of a field.
    pub fn field(&self, field: Field) -> Vec<u8> {
        let (at, length) = field.place();
        self.sector[at..at + length].to_vec()
    }

    /// Writes a field, from its first byte.
    pub fn set(&mut self, field: Field, bytes: &[u8]) {
        let (at, length) = field.place();
        assert!(bytes.len() <= length, "{field:?} has {length} bytes");
        self.sector[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The sequence number.
    pub fn sequence_id(&self) -> u64 {
        u64::from_be_bytes(self.field(Field::SequenceId).try_into().unwrap())
    }

    /// The JSON text.
    pub fn text(&self) -> String {
        let end = self.area.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(self.area[..end].to_vec()).unwrap()
    }

    /// Replaces the JSON text; the rest of the area is zero.
    pub fn set_text(&mut self, text: &str) {
        assert!(text.len() < self.area.len(), "the JSON area has {} bytes", self.area.len());
        self.area.fill(0);
        self.area[..text.len()].copy_from_slice(text.as_bytes());
    }

    /// Changes the JSON.
    pub fn json(&mut self, change: impl Fn(&mut Value)) {
        let mut json = serde_json::from_str(&self.text()).unwrap();
        change(&mut json);
        self.set_text(&json.to_string());
    }

    /// The bytes with a valid checksum.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.sector[..], &self.area].concat();
        bytes[CHECKSUM..CHECKSUM + 64].fill(0);
        let checksum = Sha256::digest(&bytes);
        bytes[CHECKSUM..CHECKSUM + 32].copy_from_slice(&checksum);
        bytes
    }
}

impl Forge {
    /// Takes a volume apart.
    pub fn of(volume: &[u8]) -> Self {
        let size = usize::try_from(u64::from_be_bytes(volume[8..16].try_into().unwrap())).unwrap();
        let copy = |at: usize| Copy {
            at,
            size,
            sector: volume[at..at + 4096].try_into().unwrap(),
            area: volume[at + 4096..at + size].to_vec(),
        };
        Self { volume: volume.to_vec(), primary: copy(0), secondary: copy(size) }
    }

    /// Both copies.
    pub fn copies(&mut self) -> [&mut Copy; 2] {
        [&mut self.primary, &mut self.secondary]
    }

    /// Changes the JSON of both copies.
    #[must_use]
    pub fn json(mut self, change: impl Fn(&mut Value)) -> Self {
        self.copies().into_iter().for_each(|copy| copy.json(&change));
        self
    }

    /// Sets the JSON member at `pointer`, which may be new, in both copies.
    #[must_use]
    pub fn set(self, pointer: &str, value: &Value) -> Self {
        self.json(|json| {
            if let Some(place) = json.pointer_mut(pointer) {
                *place = value.clone();
                return;
            }
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let parent = json.pointer_mut(parent).unwrap_or_else(|| panic!("no {pointer}"));
            parent[name] = value.clone();
        })
    }

    /// Changes the JSON text of both copies.
    #[must_use]
    pub fn text(mut self, change: impl Fn(&str) -> String) -> Self {
        for copy in self.copies() {
            copy.set_text(&change(&copy.text()));
        }
        self
    }

    /// Sets a field of both binary headers.
    #[must_use]
    pub fn field(mut self, field: Field, bytes: &[u8]) -> Self {
        self.copies().into_iter().for_each(|copy| copy.set(field, bytes));
        self
    }

    /// Writes bytes behind the header.
    #[must_use]
    pub fn bytes(mut self, at: u64, bytes: &[u8]) -> Self {
        let at = usize::try_from(at).unwrap();
        self.volume[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The Trail of Bits attack: keyslot `number` holds `key`, which the attacker knows, under the null
    /// cipher, and the digest is of this key. Every passphrase opens such a keyslot.
    #[must_use]
    pub fn null_keyslot(self, number: u32, key: &[u8]) -> Self {
        let json: Value = serde_json::from_str(&self.primary.text()).unwrap();
        let area = &json["keyslots"][number.to_string()]["area"];
        let offset: u64 = area["offset"].as_str().unwrap().parse().unwrap();
        let salt = [7; 32];
        let digest = pbkdf2(key, &salt, 1000);
        let forged = self.json(|json| {
            let keyslot = &mut json["keyslots"][number.to_string()];
            keyslot["key_size"] = json!(key.len());
            keyslot["area"]["encryption"] = json!("cipher_null-ecb");
            keyslot["af"]["hash"] = json!("sha256");
            json["digests"]["0"]["hash"] = json!("sha256");
            json["digests"]["0"]["iterations"] = json!(1000);
            json["digests"]["0"]["salt"] = json!(base64(&salt));
            json["digests"]["0"]["digest"] = json!(base64(&digest));
        });
        forged.bytes(offset, &split(key))
    }

    /// The forged volume.
    pub fn volume(&self) -> Vec<u8> {
        let mut volume = self.volume.clone();
        for copy in [&self.primary, &self.secondary] {
            volume[copy.at..copy.at + copy.size].copy_from_slice(&copy.bytes());
        }
        volume
    }
}

/// The anti-forensic split of LUKS1 into 4000 stripes with SHA-256; the random stripes are zeros.
fn split(key: &[u8]) -> Vec<u8> {
    let mut sum = vec![0; key.len()];
    for _ in 1..STRIPES {
        sum = diffused(&sum);
    }
    let last = sum.iter().zip(key).map(|(sum, key)| sum ^ key);
    let mut stripes = vec![0; key.len() * (STRIPES - 1)];
    stripes.extend(last);
    stripes
}

/// Replaces each block of 32 bytes with the hash of its number and itself.
fn diffused(bytes: &[u8]) -> Vec<u8> {
    let blocks = (0_u32..).zip(bytes.chunks(32));
    let hash = |(number, block): (u32, &[u8])| {
        let hash = Sha256::new().chain_update(number.to_be_bytes()).chain_update(block).finalize();
        hash[..block.len()].to_vec()
    };
    blocks.flat_map(hash).collect()
}

/// The first block of PBKDF2-HMAC-SHA256 (RFC 8018, 5.2).
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = hmac(password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut sum = block;
    for _ in 1..iterations {
        block = hmac(password, &block);
        sum.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// HMAC-SHA256 (RFC 2104) with a key of at most one block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    assert!(key.len() <= 64);
    let pad = |value: u8| {
        let mut block = [value; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// Base64 (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_usize, |word, byte| word << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let digit = digits[word >> (18 - 6 * position) & 63];
            text.push(if position <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Offset of the binary header's checksum.
const CHECKSUM: usize = 448;
/// The only number of stripes in the specification.
const STRIPES: usize = 4000;
