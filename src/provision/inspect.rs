//! Inspects a volume for an administrator. Nothing is written, nothing is unsealed; a refused header is part
//! of the result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::open;
use super::target::TargetError;
use super::wipe;
use crate::base::error::{Error, Failure};
use crate::base::hex;
use crate::base::pcr::{Pcr, PcrMask};
use crate::base::secret::Secret;
use crate::base::source::Window;
use crate::discover::image;
use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::luks::{Entry, FlagSet, HeaderError, Kdf, Snapshot};
use crate::format::token::TokenError;
use crate::format::token::claims::Claims;
use crate::format::token::key_broker::KeyBrokerToken;
use crate::format::token::systemd_tpm2::Token;

/// What a volume says about itself. All of it is untrusted, except for the volume key's digest, which is
/// computed.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Device or image.
    pub volume: PathBuf,
    /// The unique GUID of the partition, if the volume is in one.
    pub partition_uuid: Option<String>,
    /// The header, if the allow-list accepts it.
    pub header: Option<Header>,
    /// Why and where the header is refused.
    pub refused: Option<Refused>,
}

/// A refusal.
#[derive(Debug, Serialize)]
pub struct Refused {
    /// Its stable name.
    pub slug: String,
    /// What is refused, and where in the metadata.
    pub message: String,
    /// The exit code that an unlock would have.
    pub exit_code: u8,
}

/// An accepted header.
#[derive(Debug, Serialize)]
pub struct Header {
    /// UUID in the header.
    pub luks_uuid: String,
    /// Label in the header.
    pub label: String,
    /// Sequence number.
    pub seqid: u64,
    /// Bytes of one copy.
    pub header_bytes: u64,
    /// What is wrong with one of the copies.
    pub condition: Option<&'static str>,
    /// Cipher of the data, and the volume key's bytes.
    pub cipher: String,
    /// Bytes of the volume key.
    pub key_bytes: u32,
    /// Bytes from the volume's start to the data.
    pub data_offset: u64,
    /// Bytes of data.
    pub data_bytes: u64,
    /// Bytes of an encryption sector.
    pub sector_size: u32,
    /// Activation flags.
    pub flags: Vec<&'static str>,
    /// Keyslots that hold the volume key.
    pub keyslots: BTreeMap<u32, Slot>,
    /// Tokens.
    pub tokens: BTreeMap<u32, TokenFacts>,
    /// The volume key's digest, as a configuration pins it, if a key was given.
    pub volume_key: Option<String>,
}

/// A keyslot.
#[derive(Debug, Serialize)]
pub struct Slot {
    /// Key derivation with its cost, if a boot would try the keyslot.
    pub kdf: Option<String>,
    /// Why no boot tries it.
    pub refused: Option<Refused>,
    /// Bytes from the volume's start.
    pub area_offset: u64,
    /// Bytes.
    pub area_bytes: u64,
}

/// A token.
#[derive(Debug, Default, Serialize)]
pub struct TokenFacts {
    /// The token's type.
    #[serde(rename = "type")]
    pub of: String,
    /// What it requires, if we can read it: a kind of TPM token, or `key-broker`.
    pub kind: Option<&'static str>,
    /// Keyslots that it names.
    pub keyslots: Vec<u32>,
    /// PCRs bound by value.
    pub pcrs: Vec<u8>,
    /// PCRs bound by signature.
    pub signed_pcrs: Vec<u8>,
    /// PCR bank.
    pub bank: Option<String>,
    /// Whether its policy binds PCR 15.
    pub fenced: bool,
    /// Whether it binds its keyslot's metadata.
    pub bound: bool,
    /// The owner key that signed it, by its name.
    pub signer: Option<String>,
    /// Where a key broker keeps the key, if not where the configuration says.
    pub path: Option<String>,
    /// PCR values that it claims to be sealed to.
    pub sealed_to: BTreeMap<u8, String>,
    /// Why we do not read it.
    pub refused: Option<String>,
}

/// Inspects `volume`. `root` stands for `/`; `key` opens a keyslot to compute the volume key's digest.
///
/// # Errors
/// The volume cannot be read, or the key does not open it.
pub fn inspect(
    volume: &Path,
    root: &Path,
    flags: &FlagSet,
    key: Option<&Secret>,
) -> Result<Inspection, Error> {
    let opening = |source| TargetError::Open { path: volume.to_owned(), source };
    let mut file = std::fs::File::open(volume).map_err(opening)?;
    let (size, sector) = image::measure(&mut file, root).map_err(TargetError::Find)?;
    let found = image::locate(&file, size, sector).map_err(TargetError::Find)?;
    let window = Window::new(&file, found.offset, found.length);
    let mut inspection = Inspection {
        volume: volume.to_owned(),
        partition_uuid: found.partition.as_ref().map(|partition| partition.uuid.to_string()),
        header: None,
        refused: None,
    };
    match Snapshot::read(&window, found.length, found.sector.bytes(), flags) {
        Err(error @ HeaderError::Read { .. }) => return Err(error.into()),
        Err(error) => {
            inspection.refused = Some(Refused::of(&error));
        }
        Ok(snapshot) => {
            let mut header = Header::of(&snapshot);
            if let Some(key) = key {
                let opened = open::by_passphrase(&snapshot, &window, key)?;
                header.volume_key = Some(VolumeKeyDigest::of(&opened.key).to_string());
            }
            inspection.header = Some(header);
        }
    }
    Ok(inspection)
}

impl Header {
    fn of(snapshot: &Snapshot) -> Self {
        let segment = snapshot.segment();
        Self {
            luks_uuid: snapshot.uuid().to_string(),
            label: snapshot.label().to_string(),
            seqid: snapshot.seqid(),
            header_bytes: snapshot.header_size().bytes(),
            condition: snapshot.condition().slug(),
            cipher: segment.cipher.specification().to_owned(),
            key_bytes: segment.cipher.key_size(),
            data_offset: segment.offset,
            data_bytes: snapshot.data_bytes(),
            sector_size: segment.sector_size,
            flags: snapshot.flags().iter().map(crate::format::luks::Flag::name).collect(),
            keyslots: snapshot.keyslots().iter().map(|(number, entry)| (*number, Slot::of(entry))).collect(),
            tokens: snapshot
                .tokens()
                .iter()
                .map(|(number, token)| (*number, TokenFacts::of(*number, token)))
                .collect(),
            volume_key: None,
        }
    }
}

impl Slot {
    fn of(entry: &Entry) -> Self {
        let judged = entry.judge();
        Self {
            kdf: judged.as_ref().ok().map(|keyslot| cost(&keyslot.kdf)),
            refused: judged.as_ref().err().map(Refused::of),
            area_offset: entry.offset,
            area_bytes: entry.size,
        }
    }
}

impl Refused {
    fn of(error: &HeaderError) -> Self {
        Self {
            slug: error.slug().to_owned(),
            message: crate::base::error::chain(error),
            exit_code: error.class().exit_code(),
        }
    }
}

impl TokenFacts {
    fn of(number: u32, json: &Value) -> Self {
        let facts = Self {
            of: json.get("type").and_then(Value::as_str).unwrap_or_default().to_owned(),
            keyslots: wipe::keyslots(json).collect(),
            ..Self::default()
        };
        let numbers = |pcrs: PcrMask| pcrs.iter().map(Pcr::number).collect();
        match Token::parse(number, json) {
            Err(TokenError::OtherType) => facts.of_broker(number, json),
            Err(error) => Self { refused: Some(error.slug().to_owned()), ..facts },
            Ok(token) => Self {
                kind: Some(token.kind().name()),
                pcrs: numbers(token.pcrs),
                signed_pcrs: token.signed.as_ref().map(|signed| numbers(signed.pcrs)).unwrap_or_default(),
                bank: token.bank.map(|bank| bank.to_string()),
                fenced: token.pcrs.contains(Pcr::FENCE),
                bound: token.proof.is_some(),
                signer: signer(token.proof.as_ref()),
                sealed_to: token
                    .proof
                    .iter()
                    .flat_map(|proof| &proof.pcrs)
                    .map(|(pcr, value)| (pcr.number(), hex::encode(value)))
                    .collect(),
                ..facts
            },
        }
    }

    fn of_broker(self, number: u32, json: &Value) -> Self {
        match KeyBrokerToken::parse(number, json) {
            Err(TokenError::OtherType) => self,
            Err(error) => Self { refused: Some(error.slug().to_owned()), ..self },
            Ok(token) => Self {
                kind: Some(KEY_BROKER),
                bound: token.proof.is_some(),
                signer: signer(token.proof.as_ref()),
                path: token.path,
                ..self
            },
        }
    }
}

/// The kind of a token whose key a key broker holds.
pub const KEY_BROKER: &str = "key-broker";

fn signer(proof: Option<&Claims>) -> Option<String> {
    proof?.signer.map(|signer| signer.to_string())
}

fn cost(kdf: &Kdf) -> String {
    match kdf {
        Kdf::Pbkdf2 { hash, iterations, .. } => format!("pbkdf2 {}, {iterations} iterations", hash.name()),
        Kdf::Argon2 { id, time, memory, cpus, .. } => {
            format!("argon2i{}, {time} passes, {memory} KiB, {cpus} lanes", if *id { "d" } else { "" })
        }
    }
}
