//! Opens a keyslot with a secret from the TPM or a key broker, and judges the volume.
//!
//! The secret is trusted, because the TPM or the pinned key broker released it under its policy. The header
//! is untrusted.

use super::authentic;
use super::authentic::Origin;
use super::error::ProveError;
use super::judge::{Bound, Facts, Proven, judge};
use super::settings::ProofRules;
use crate::attest::Delivered;
use crate::base::secret::{Secret, VolumeKey};
use crate::base::warning::Warning;
use crate::cryptsetup::Detached;
use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::luks::{KeyslotArea, Snapshot, binding, emit};
use crate::format::token::claims::Claims;
use crate::format::token::key_broker::KeyBrokerToken;
use crate::format::token::passphrase::passphrase;
use crate::format::token::systemd_tpm2::Token;
use crate::unseal::Unsealed;

/// A volume key that matched the snapshot's digest, and the header to map the volume with.
pub struct Verified {
    /// The key of the mapping.
    pub key: VolumeKey,
    /// The canonical header, with the one keyslot that opened.
    pub header: Vec<u8>,
    /// What the volume has proved.
    pub proven: Proven,
    /// Proofs that are missing, but that the configuration does not require.
    pub warnings: Vec<Warning>,
}

/// Opens the keyslot of `unsealed` in the snapshot and checks the volume by `rules`.
///
/// # Errors
/// `keyslot-not-opened`, `binding-missing`, `binding-violated`, `fence-ineffective`,
/// `volume-unauthenticated`, `volume-key-not-pinned`, `owner-unknown`, `owner-signature-invalid`.
pub fn verify(
    unsealed: &Unsealed,
    snapshot: &Snapshot,
    area: &KeyslotArea,
    rules: ProofRules<'_>,
) -> Result<Verified, ProveError> {
    let opening = Opening::by_tpm(unsealed.token(), unsealed.secret(), unsealed.fence_is_effective());
    check(&opening, snapshot, area, rules)
}

/// As [`verify`], for a secret from a key broker. That the key broker released it vouches for the volume, and
/// the key broker's policy, not the token, decides whether it releases the key again.
///
/// # Errors
/// `keyslot-not-opened`, `binding-missing`, `binding-violated`, `broker-names-another-volume`,
/// `owner-signature-invalid`.
pub fn verify_delivered(
    token: &KeyBrokerToken,
    delivered: &Delivered,
    snapshot: &Snapshot,
    area: &KeyslotArea,
    rules: ProofRules<'_>,
) -> Result<Verified, ProveError> {
    check(&Opening::by_key_broker(token, delivered), snapshot, area, rules)
}

/// A secret to open a keyslot with, its origin, and the token's claims.
pub(crate) struct Opening<'a> {
    keyslot: u32,
    proof: Option<&'a Claims>,
    passphrase: Secret,
    /// The key of the binding, if there is one. A passphrase that a person chose is never a MAC key.
    binding_key: Option<&'a Secret>,
    fence_effective: bool,
    origin: Origin,
}

impl<'a> Opening<'a> {
    /// A secret sealed in a token. The trial of an enrolment knows it without the TPM.
    pub(crate) fn by_tpm(token: &'a Token, secret: &'a Secret, fence_effective: bool) -> Self {
        Self {
            keyslot: token.keyslot,
            proof: token.proof.as_ref(),
            passphrase: passphrase(secret),
            binding_key: Some(secret),
            fence_effective,
            origin: Origin::Tpm,
        }
    }

    /// What a key broker delivered for a token.
    pub(crate) fn by_key_broker(token: &'a KeyBrokerToken, delivered: &'a Delivered) -> Self {
        Self {
            keyslot: token.keyslot,
            proof: token.proof.as_ref(),
            passphrase: Secret::copy_of(delivered.passphrase.expose()),
            binding_key: delivered.binding_key.as_ref(),
            fence_effective: true,
            origin: Origin::KeyBroker { volume_key: delivered.volume_key },
        }
    }
}

/// Opens the keyslot and judges the volume.
///
/// # Errors
/// As [`verify`] and [`verify_delivered`].
pub(crate) fn check(
    opening: &Opening<'_>,
    snapshot: &Snapshot,
    area: &KeyslotArea,
    rules: ProofRules<'_>,
) -> Result<Verified, ProveError> {
    let header = emit::canonical_header(snapshot, area);
    let key = open(&header, &opening.passphrase, snapshot)?;
    let message = binding::message(snapshot, opening.keyslot, &key).map_err(ProveError::Header)?;
    let bound = match (opening.proof, opening.binding_key) {
        // A bare passphrase binds nothing, whatever the token claims.
        (None, _) | (_, None) => Bound::No,
        (Some(proof), Some(secret)) if proof.binding.verify(secret, &message) => Bound::Yes,
        (Some(_), _) => Bound::Violated,
    };
    let digest = VolumeKeyDigest::of(&key);
    let authentic = authentic::judge(rules.trusted, opening.origin, opening.proof, &message, digest);
    let facts = Facts { bound, fence_effective: opening.fence_effective, authentic };
    let (proven, warnings) = judge(facts, rules.policy)?;
    Ok(Verified { key, header, proven, warnings })
}

/// Opens the only keyslot of a canonical header.
///
/// # Errors
/// `keyslot-not-opened`.
pub fn open(header: &[u8], passphrase: &Secret, snapshot: &Snapshot) -> Result<VolumeKey, ProveError> {
    // 32 or 64, which fits every usize.
    let size = usize::try_from(snapshot.segment().cipher.key_size()).unwrap_or(0);
    Detached::load(header, None)
        .and_then(|mut volume| volume.volume_key(passphrase, size))
        .map_err(ProveError::Keyslot)
}
