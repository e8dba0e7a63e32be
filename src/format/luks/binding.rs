//! Computes the binding of a keyslot: a MAC over the volume's metadata, keyed by the secret that the TPM
//! unsealed. It shows whether untrusted metadata is what was enrolled. `docs/binding.md` has the layout and a
//! vector.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::keyslot::{Keyslot, STRIPES};
use super::{HeaderError, Kdf, SegmentSize, Snapshot};
use crate::base::secret::{Secret, VolumeKey};

/// `HMAC-SHA256(HKDF-SHA256(unsealed secret), message)`.
#[derive(Clone, Copy, Debug)]
pub struct Binding([u8; 32]);

impl Binding {
    /// A binding from a token.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Binds `message` to a TPM-sealed secret. Never use a passphrase here: a MAC makes guessing fast.
    #[must_use]
    pub fn compute(sealed_secret: &Secret, message: &[u8]) -> Self {
        Self(mac(sealed_secret, message).finalize().into_bytes().into())
    }

    /// Whether this is the binding of `message`, in constant time.
    #[must_use]
    pub fn verify(&self, sealed_secret: &Secret, message: &[u8]) -> bool {
        mac(sealed_secret, message).verify_slice(&self.0).is_ok()
    }

    /// The bytes for a token.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Identifies a volume key without revealing it: `HMAC-SHA256(volume key, label)`. A configuration pins a
/// volume by this digest, and the message ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeKeyDigest([u8; 32]);

impl VolumeKeyDigest {
    /// The digest of a volume key.
    #[must_use]
    pub fn of(key: &VolumeKey) -> Self {
        Self(hmac(key.expose(), VOLUME_KEY_LABEL).finalize().into_bytes().into())
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for VolumeKeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TryFrom<String> for VolumeKeyDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        crate::base::hex::decode(&text)
            .map(Self)
            .ok_or("a volume-key pin is 64 hexadecimal digits, as `cvm-unlock inspect` prints it")
    }
}

impl From<VolumeKeyDigest> for String {
    fn from(digest: VolumeKeyDigest) -> Self {
        digest.to_string()
    }
}

/// The bytes to bind: everything that decides which key opens the keyslot and what is mapped with it.
///
/// # Errors
/// There is no such keyslot.
pub fn message(snapshot: &Snapshot, keyslot: u32, volume_key: &VolumeKey) -> Result<Vec<u8>, HeaderError> {
    let parameters = snapshot.keyslot(keyslot)?;
    let mut message = Message(Vec::new());
    message.field(MESSAGE_TAG);
    message.field(snapshot.uuid().bytes());
    message.segment(snapshot);
    message.digest(snapshot);
    message.number(keyslot);
    message.keyslot(&parameters);
    let flags: Vec<_> = snapshot.flags().iter().map(super::Flag::name).collect();
    message.field(flags.join(",").as_bytes());
    message.field(VolumeKeyDigest::of(volume_key).bytes());
    Ok(message.0)
}

/// Fields, each prefixed with its length. Lengths and numbers are 32 bits, big-endian.
struct Message(Vec<u8>);

impl Message {
    fn field(&mut self, content: &[u8]) {
        // Cannot overflow: the longest field is the list of flags, of which there are seven.
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(content);
    }

    fn number(&mut self, number: u32) {
        self.field(&number.to_be_bytes());
    }

    fn wide(&mut self, number: u64) {
        self.field(&number.to_be_bytes());
    }

    fn segment(&mut self, snapshot: &Snapshot) {
        let segment = snapshot.segment();
        self.wide(segment.offset);
        self.wide(match segment.bytes {
            SegmentSize::Dynamic => u64::MAX,
            SegmentSize::Fixed(bytes) => bytes,
        });
        self.field(segment.cipher.specification().as_bytes());
        self.number(segment.cipher.key_size());
        self.number(segment.sector_size);
    }

    fn digest(&mut self, snapshot: &Snapshot) {
        let digest = snapshot.digest();
        self.field(digest.hash.name().as_bytes());
        self.number(digest.iterations);
        self.field(&digest.salt);
        self.field(&digest.value);
    }

    fn keyslot(&mut self, keyslot: &Keyslot) {
        self.field(keyslot.split_hash.name().as_bytes());
        self.number(STRIPES);
        self.wide(keyslot.area.offset);
        self.wide(keyslot.area.size);
        self.field(keyslot.area.cipher.specification().as_bytes());
        self.number(keyslot.area.cipher.key_size());
        let (name, hash, passes, memory, lanes, salt) = match &keyslot.kdf {
            Kdf::Pbkdf2 { hash, iterations, salt } => ("pbkdf2", hash.name(), *iterations, 0, 0, salt),
            Kdf::Argon2 { id: true, time, memory, cpus, salt } => {
                ("argon2id", "", *time, *memory, *cpus, salt)
            }
            Kdf::Argon2 { id: false, time, memory, cpus, salt } => {
                ("argon2i", "", *time, *memory, *cpus, salt)
            }
        };
        self.field(name.as_bytes());
        self.field(hash.as_bytes());
        self.number(passes);
        self.number(memory);
        self.number(lanes);
        self.field(salt);
    }
}

#[expect(clippy::expect_used, reason = "32 bytes are less than HKDF's limit of 255 blocks (RFC 5869, 2.3)")]
fn mac(sealed_secret: &Secret, message: &[u8]) -> Hmac<Sha256> {
    let mut key = Zeroizing::new([0; 32]);
    let hkdf = Hkdf::<Sha256>::new(None, sealed_secret.expose());
    hkdf.expand(KEY_LABEL, key.as_mut_slice()).expect("HKDF gives 32 bytes");
    hmac(key.as_slice(), message)
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104, 2)")]
fn hmac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key").chain_update(message)
}

/// HKDF's `info` for the MAC key.
const KEY_LABEL: &[u8] = b"cvm-unlock binding v1";
/// The first field, which names the layout.
const MESSAGE_TAG: &[u8] = b"cvm-unlock binding message v1";
/// The message of the HMAC in [`VolumeKeyDigest`].
const VOLUME_KEY_LABEL: &[u8] = b"cvm-unlock volume key v1";

#[cfg(test)]
mod tests;
