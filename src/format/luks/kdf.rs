//! Parses how a keyslot derives its key from the passphrase, and bounds the cost.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::cipher::Hash;
use super::error::{HeaderError, HeaderRefusal};
use super::members::Members;

/// A salt; cryptsetup's always has 32 bytes (`LUKS_SALTSIZE`).
pub type Salt = [u8; 32];

/// A key derivation with its costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kdf {
    /// PBKDF2 with HMAC.
    Pbkdf2 {
        /// The HMAC's hash.
        hash: Hash,
        /// Iterations, 1 to [`ITERATIONS_LIMIT`].
        iterations: u32,
        /// The salt.
        salt: Salt,
    },
    /// Argon2.
    Argon2 {
        /// Argon2id rather than Argon2i.
        id: bool,
        /// Passes over the memory.
        time: u32,
        /// KiB, at most [`MEMORY_LIMIT`].
        memory: u32,
        /// Lanes, 1 to [`LANES_LIMIT`].
        cpus: u32,
        /// The salt.
        salt: Salt,
    },
}

impl Kdf {
    pub(super) fn parse(mut members: Members<'_>) -> Result<Self, HeaderError> {
        let salt = salt(&mut members)?;
        let kdf = match members.text("type")? {
            "pbkdf2" => {
                let hash = hash(&mut members)?;
                Self::Pbkdf2 { hash, iterations: iterations(&mut members)?, salt }
            }
            kind @ ("argon2i" | "argon2id") => {
                let time = members.number("time")?;
                let memory = members.number("memory")?;
                let cpus = members.number("cpus")?;
                let work = u64::from(time).saturating_mul(u64::from(memory));
                let bounded = (1..=MEMORY_LIMIT).contains(&memory)
                    && (1..=LANES_LIMIT).contains(&cpus)
                    && (1..=WORK_LIMIT).contains(&work);
                if !bounded {
                    return Err(HeaderRefusal::KdfCost.at(members.at("memory")));
                }
                Self::Argon2 { id: kind == "argon2id", time, memory, cpus, salt }
            }
            _ => return Err(HeaderRefusal::Kdf.at(members.at("type"))),
        };
        members.finish()?;
        Ok(kdf)
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Pbkdf2 { hash, iterations, salt } => json!({
                "type": "pbkdf2",
                "hash": hash.name(),
                "iterations": iterations,
                "salt": Base64::encode_string(salt),
            }),
            Self::Argon2 { id, time, memory, cpus, salt } => json!({
                "type": if *id { "argon2id" } else { "argon2i" },
                "time": time,
                "memory": memory,
                "cpus": cpus,
                "salt": Base64::encode_string(salt),
            }),
        }
    }
}

/// Takes `salt`.
pub(super) fn salt(members: &mut Members<'_>) -> Result<Salt, HeaderError> {
    Salt::try_from(members.base64("salt")?).map_err(|_| HeaderRefusal::Salt.at(members.at("salt")))
}

/// Takes `hash`.
pub(super) fn hash(members: &mut Members<'_>) -> Result<Hash, HeaderError> {
    Hash::parse(members.text("hash")?).map_err(|refusal| refusal.at(members.at("hash")))
}

/// Takes `iterations` of PBKDF2.
pub(super) fn iterations(members: &mut Members<'_>) -> Result<u32, HeaderError> {
    let iterations = members.number("iterations")?;
    if (1..=ITERATIONS_LIMIT).contains(&iterations) {
        Ok(iterations)
    } else {
        Err(HeaderRefusal::KdfCost.at(members.at("iterations")))
    }
}

/// PBKDF2's iterations. cryptsetup aims at two seconds, about 10 million on the fastest machines of today.
/// This limit takes less than half a minute on a slow one.
pub const ITERATIONS_LIMIT: u32 = 1 << 25;
/// Argon2's memory in KiB: 1 GiB, the most that cryptsetup chooses by default (`DEFAULT_LUKS2_MEMORY_KB`).
pub const MEMORY_LIMIT: u32 = 1 << 20;
/// Argon2's lanes: the most that cryptsetup chooses by default (`DEFAULT_LUKS2_PARALLEL_THREADS`).
pub const LANES_LIMIT: u32 = 4;
/// Argon2's passes times KiB: 32 passes over 1 GiB. cryptsetup's two seconds allow about 5.
pub const WORK_LIMIT: u64 = 1 << 25;

#[cfg(test)]
pub(in crate::format::luks) mod tests {
    use super::*;
    use crate::base::error::Failure;
    use proptest::prelude::*;

    fn slug(kdf: &Value) -> &'static str {
        Members::of("kdf", kdf).and_then(Kdf::parse).unwrap_err().slug()
    }

    fn argon2(time: u32, memory: u32, cpus: u32) -> Value {
        Kdf::Argon2 { id: true, time, memory, cpus, salt: [1; 32] }.to_json()
    }

    #[test]
    fn a_kdf_bomb_is_refused() {
        for bomb in [
            argon2(4, MEMORY_LIMIT + 1, 4),
            argon2(u32::MAX, 1024, 4),
            argon2(33, MEMORY_LIMIT, 4),
            argon2(4, 1024, 5),
            argon2(0, 1024, 4),
            argon2(4, 0, 4),
            argon2(4, 1024, 0),
            Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: ITERATIONS_LIMIT + 1, salt: [1; 32] }.to_json(),
            Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 0, salt: [1; 32] }.to_json(),
        ] {
            assert_eq!(slug(&bomb), "luks-kdf-cost", "{bomb}");
        }
        assert!(Members::of("kdf", &argon2(4, MEMORY_LIMIT, 4)).and_then(Kdf::parse).is_ok());
    }

    #[test]
    fn other_derivations_hashes_and_salts_are_refused() {
        let change = |name: &str, value: Value| {
            let mut kdf = Kdf::Pbkdf2 { hash: Hash::Sha512, iterations: 1000, salt: [1; 32] }.to_json();
            kdf[name] = value;
            slug(&kdf)
        };
        assert_eq!(change("type", json!("scrypt")), "luks-kdf");
        assert_eq!(change("hash", json!("sha1")), "luks-hash");
        assert_eq!(change("salt", json!("AAAA")), "luks-salt");
        assert_eq!(change("salt", json!("A*AA")), "luks-metadata");
        assert_eq!(change("memory", json!(1)), "luks-metadata");
    }

    pub(in crate::format::luks) fn any_kdf() -> impl Strategy<Value = Kdf> {
        let hash = prop::sample::select(vec![Hash::Sha256, Hash::Sha384, Hash::Sha512]);
        prop_oneof![
            (hash, 1..=ITERATIONS_LIMIT, any::<Salt>()).prop_map(|(hash, iterations, salt)| Kdf::Pbkdf2 {
                hash,
                iterations,
                salt
            }),
            (any::<bool>(), 1..=32_u32, 1..=MEMORY_LIMIT, 1..=LANES_LIMIT, any::<Salt>())
                .prop_map(|(id, time, memory, cpus, salt)| Kdf::Argon2 { id, time, memory, cpus, salt }),
        ]
    }

    proptest! {
        #[test]
        fn parse_and_emit_are_inverse(kdf in any_kdf()) {
            let json = kdf.to_json();
            prop_assert_eq!(Members::of("kdf", &json).and_then(Kdf::parse).unwrap(), kdf);
        }
    }
}
