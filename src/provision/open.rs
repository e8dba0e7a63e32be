//! Opens a volume that is to be changed, with a passphrase, or with the TPM and one of the volume's own
//! tokens. The administrator chose the volume; opening it proves nothing about it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::base::error::{Error, failures};
use crate::base::secret::{Secret, VolumeKey};
use crate::base::source::Source;
use crate::fence::Unfenced;
use crate::format::luks::{HeaderError, Snapshot, emit};
use crate::format::pcr_signature::Signatures;
use crate::policy::{State, TokenRules};
use crate::prove;
use crate::prove::settings::{Authentic, Policy, ProofRules};
use crate::tpm::Tpm;
use crate::unseal::{Tokens, Unsealed};

/// How to open the volume.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// Passphrase of a keyslot.
    Passphrase(&'a Secret),
    /// The TPM, with one of the volume's tokens. The signatures serve tokens whose policy is signed.
    Tpm(&'a Signatures),
}

/// An opened volume.
pub(super) struct Opened {
    /// The volume key.
    pub(super) key: VolumeKey,
    /// The keyslot that held it.
    pub(super) keyslot: u32,
}

/// Opens the volume whose metadata is `bytes`.
pub(super) fn open(
    snapshot: &Snapshot,
    bytes: &Vec<u8>,
    key: Key<'_>,
    tpm: Option<&mut dyn Tpm>,
) -> Result<Opened, Error> {
    match (key, tpm) {
        (Key::Passphrase(passphrase), _) => by_passphrase(snapshot, bytes, passphrase),
        (Key::Tpm(signatures), Some(tpm)) => {
            let unsealed = unseal(snapshot.tokens(), snapshot, tpm, signatures.clone())?;
            by_token(snapshot, bytes, &unsealed)
        }
        (Key::Tpm(_), None) => Err(OpenError::NoTpm.into()),
    }
}

/// Opens the keyslot that the passphrase fits. Keyslots that no boot would try are not tried here either.
pub(super) fn by_passphrase(
    snapshot: &Snapshot,
    source: &(impl Source + ?Sized),
    passphrase: &Secret,
) -> Result<Opened, Error> {
    let mut untried = None;
    for (number, entry) in snapshot.keyslots() {
        if let Err(source) = entry.judge() {
            untried.get_or_insert(OpenError::Untried { keyslot: *number, source });
            continue;
        }
        let area = snapshot.read_area(source, *number)?;
        let header = emit::canonical_header(snapshot, &area);
        if let Ok(key) = prove::open(&header, passphrase, snapshot) {
            return Ok(Opened { key, keyslot: *number });
        }
    }
    Err(untried.unwrap_or(OpenError::WrongKey).into())
}

/// Opens the keyslot of an unsealed token. An invalid binding is refused; a missing one is up to the
/// administrator.
pub(super) fn by_token(snapshot: &Snapshot, bytes: &Vec<u8>, unsealed: &Unsealed) -> Result<Opened, Error> {
    let keyslot = unsealed.token().keyslot;
    let area = snapshot.read_area(bytes, keyslot)?;
    let policy = Policy {
        require_authentic: false,
        require_binding: false,
        require_fence: false,
        allow_unbound: true,
    };
    let rules = ProofRules { policy: &policy, trusted: &Authentic::default() };
    let fenced = unsealed.fence_is_effective();
    let opening = prove::Opening::by_tpm(unsealed.token(), unsealed.secret(), fenced);
    let verified = prove::check(&opening, snapshot, &area, rules)?;
    Ok(Opened { key: verified.key, keyslot })
}

/// Has the TPM unseal the first of `tokens` (the snapshot's) that it opens in the present state.
pub(super) fn unseal(
    tokens: &BTreeMap<u32, Value>,
    snapshot: &Snapshot,
    tpm: &mut dyn Tpm,
    signatures: Signatures,
) -> Result<Unsealed, Error> {
    let rules = TokenRules { allow_unbound: true, require_fence: false };
    let unfenced = Unfenced::check(tpm)?;
    let mut state = State { signatures, ..State::at_entry(unfenced.banks()) };
    let mut tokens = Tokens::among(tokens, snapshot);
    match tokens.unseal(tpm, &unfenced, &rules, &mut state) {
        Some(unsealed) => Ok(unsealed),
        None => Err(tokens.into_error().into()),
    }
}

/// Why a volume was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key file fits no keyslot.
    #[error("The given key opens no keyslot of the volume")]
    WrongKey,
    /// The key file fits no keyslot that we try, but there is one that we do not try.
    #[error("The given key opens no keyslot that can be tried, and keyslot {keyslot} cannot")]
    Untried {
        /// The first such keyslot.
        keyslot: u32,
        /// Why we do not try it.
        source: HeaderError,
    },
    /// Whether the empty passphrase opens a keyslot that we do not try.
    #[error("Whether the empty passphrase opens keyslot {keyslot} is not known: it cannot be tried")]
    PerhapsEmpty {
        /// The first such keyslot.
        keyslot: u32,
        /// Why we do not try it.
        source: HeaderError,
    },
    /// There is no TPM to use.
    #[error("No TPM to unseal the key")]
    NoTpm,
}

failures! { OpenError:
    Self::WrongKey => "key-wrong", Refused,
        "The file is taken as it is: a newline at its end belongs to the key";
    Self::Untried { source, .. } => from source, "Give the key of a keyslot with ordinary parameters";
    Self::PerhapsEmpty { source, .. } => from source,
        "Wipe it by its number as well, or try it with cryptsetup first";
    Self::NoTpm => "tpm-absent", Unavailable, "";
}
