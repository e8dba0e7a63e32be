//! Verify: is what the TPM or a key broker gave us the key of this volume, and is the volume what we enrolled?
//!
//! A secret with where it is from and the snapshot come in; the volume key goes out, with everything known about how far
//! the volume has proved itself. Trusted: the secret (the TPM released it under its policy, or the pinned server under
//! its own). Not trusted: the header.

use crate::attest::Delivered;
use crate::authentic;
use crate::authentic::{Authenticity, Missing, Origin, Verdict};
use crate::base::error::{Class, Failure};
use crate::base::secret::{Secret, VolumeKey};
use crate::base::warning::Warning;
use crate::config::{Authentic, Config, Policy};
use crate::cryptsetup::{CryptError, Detached};
use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::luks::{HeaderError, KeyslotArea, Snapshot, binding, emit};
use crate::format::token::claims::Proof;
use crate::format::token::key_broker::KbsToken;
use crate::format::token::passphrase::passphrase;
use crate::format::token::systemd_tpm2::Token;
use crate::unseal::Unsealed;

/// A volume key that opened the snapshot's digest, and the header from which it may be mapped.
pub struct Verified {
    /// The key of the mapping.
    pub key: VolumeKey,
    /// The canonical header with the one keyslot that opened.
    pub header: Vec<u8>,
    /// What the volume has proved.
    pub proven: Proven,
    /// What the volume has not proved although the configuration lets it pass.
    pub warnings: Vec<Warning>,
}

/// The proofs of a volume that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The keyslot's metadata is what was bound to the sealed secret.
    pub bound: bool,
    /// What shows that the owner made the volume.
    pub authenticity: Option<Authenticity>,
}

/// Opens the keyslot of `unsealed` from the snapshot and checks the volume against the configured policy.
///
/// # Errors
/// `keyslot-not-opened`, `binding-missing`, `binding-violated`, `fence-ineffective`, `volume-unauthenticated`,
/// `volume-key-not-pinned`, `owner-unknown`, `owner-signature-invalid`.
pub fn verify(
    unsealed: &Unsealed,
    snapshot: &Snapshot,
    area: &KeyslotArea,
    config: &Config,
) -> Result<Verified, VerifyError> {
    let opening = Opening::by_tpm(unsealed.token(), unsealed.secret(), unsealed.fence_is_effective());
    check(&opening, snapshot, area, Rules::of(config))
}

/// The same for what a key broker delivered: that it did vouches for the volume. Its policy, not the token, decides
/// whether the key is given out twice.
///
/// # Errors
/// `keyslot-not-opened`, `binding-missing`, `binding-violated`, `broker-names-another-volume`,
/// `owner-signature-invalid`.
pub fn verify_delivered(
    token: &KbsToken,
    delivered: &Delivered,
    snapshot: &Snapshot,
    area: &KeyslotArea,
    config: &Config,
) -> Result<Verified, VerifyError> {
    check(&Opening::by_key_broker(token, delivered), snapshot, area, Rules::of(config))
}

/// What a volume is measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// What may be missing.
    pub(crate) policy: &'a Policy,
    /// Who can vouch for a volume.
    pub(crate) trusted: &'a Authentic,
}

impl<'a> Rules<'a> {
    const fn of(config: &'a Config) -> Self {
        Self { policy: &config.policy, trusted: &config.authentic }
    }
}

/// What shall open a keyslot, where it is from, and what the token claims.
pub(crate) struct Opening<'a> {
    keyslot: u32,
    proof: Option<&'a Proof>,
    passphrase: Secret,
    /// The key of the binding, where there is one: a passphrase that a person chose is never a MAC key.
    binding_key: Option<&'a Secret>,
    fence_effective: bool,
    origin: Origin,
}

impl<'a> Opening<'a> {
    /// A token's secret. An enrolment's trial knows it without the TPM.
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

    /// What a key broker has for a token.
    pub(crate) fn by_key_broker(token: &'a KbsToken, delivered: &'a Delivered) -> Self {
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

/// Opens the keyslot and judges what the volume shows.
///
/// # Errors
/// As [`verify`] and [`verify_delivered`].
pub(crate) fn check(
    opening: &Opening<'_>,
    snapshot: &Snapshot,
    area: &KeyslotArea,
    rules: Rules<'_>,
) -> Result<Verified, VerifyError> {
    let header = emit::canonical_header(snapshot, area);
    let key = open(&header, &opening.passphrase, snapshot)?;
    let message = binding::message(snapshot, opening.keyslot, &key).map_err(VerifyError::Header)?;
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
pub fn open(header: &[u8], passphrase: &Secret, snapshot: &Snapshot) -> Result<VolumeKey, VerifyError> {
    // 32 or 64: fits every usize.
    let size = usize::try_from(snapshot.segment().cipher.key_size()).unwrap_or(0);
    Detached::load(header, None)
        .and_then(|mut volume| volume.volume_key(passphrase, size))
        .map_err(VerifyError::Keyslot)
}

/// Whether the keyslot's metadata is what was bound at enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Yes,
    No,
    Violated,
}

/// What is known about a volume whose keyslot opened.
#[derive(Clone, Copy, Debug)]
struct Facts {
    bound: Bound,
    /// The token's policy contains PCR 15, which was zero at entry.
    fence_effective: bool,
    /// Whether the owner made it.
    authentic: Verdict,
}

/// The decision: what is missing is refused, or passes with a warning where the configuration opted in. A binding or a
/// signature that does not hold is never acceptable.
fn judge(facts: Facts, policy: &Policy) -> Result<(Proven, Vec<Warning>), VerifyError> {
    let mut warnings = Vec::new();
    let mut missing = |required: bool, refusal: VerifyError| {
        if required {
            return Err(refusal);
        }
        warnings.push(Warning::new(refusal.slug(), refusal.to_string()));
        Ok(())
    };
    let bound = match facts.bound {
        Bound::Yes => true,
        Bound::No => {
            missing(policy.require_binding, VerifyError::Unbound)?;
            false
        }
        Bound::Violated => return Err(VerifyError::BindingViolated),
    };
    if !facts.fence_effective {
        missing(policy.require_fence, VerifyError::FenceIneffective)?;
    }
    let authenticity = match facts.authentic {
        Verdict::Proven(authenticity) => Some(authenticity),
        Verdict::Missing(proof) => {
            missing(policy.require_authentic, VerifyError::Unauthenticated(proof))?;
            None
        }
        Verdict::Invalid => return Err(VerifyError::SignatureInvalid),
        Verdict::OtherVolume => return Err(VerifyError::OtherVolume),
    };
    Ok((Proven { bound, authenticity }, warnings))
}

/// Why a volume is not ours, or cannot show that it is.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The secret does not open the keyslot, or the key does not fit the digest.
    #[error("Opening the keyslot with the secret")]
    Keyslot(#[source] CryptError),
    /// The token's keyslot is not in the header.
    #[error("Collecting what the keyslot is bound to")]
    Header(#[source] HeaderError),
    /// No binding in the token.
    #[error("The token does not bind the keyslot's metadata to the sealed secret")]
    Unbound,
    /// The binding is of other metadata.
    #[error("The volume's metadata is not what was bound to the sealed secret")]
    BindingViolated,
    /// The policy lacks PCR 15.
    #[error("The token's policy does not contain PCR 15: the key can be unsealed again in this boot")]
    FenceIneffective,
    /// Nothing proves who made the volume.
    #[error("{}", match .0 {
        Missing::Proof => "Nothing proves that the volume was made by its owner",
        Missing::UnknownSigner => "The volume is signed by a key that the configuration does not name",
        Missing::NotPinned => "The volume's key is none of those that the configuration pins",
    })]
    Unauthenticated(Missing),
    /// The signature is not over this volume, or not by the key that it names.
    #[error("The owner's signature does not hold for this volume")]
    SignatureInvalid,
    /// The key document names another volume key.
    #[error("The key broker names another volume key than the one that the keyslot holds")]
    OtherVolume,
}

impl Failure for VerifyError {
    fn slug(&self) -> &'static str {
        match self {
            Self::Keyslot(_) => "keyslot-not-opened",
            Self::Header(source) => source.slug(),
            Self::Unbound => "binding-missing",
            Self::BindingViolated => "binding-violated",
            Self::FenceIneffective => "fence-ineffective",
            Self::Unauthenticated(Missing::Proof) => "volume-unauthenticated",
            Self::Unauthenticated(Missing::UnknownSigner) => "owner-unknown",
            Self::Unauthenticated(Missing::NotPinned) => "volume-key-not-pinned",
            Self::SignatureInvalid => "owner-signature-invalid",
            Self::OtherVolume => "broker-names-another-volume",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Keyslot(_)
            | Self::Header(_)
            | Self::BindingViolated
            | Self::SignatureInvalid
            | Self::OtherVolume => Class::Data,
            Self::Unbound | Self::FenceIneffective | Self::Unauthenticated(_) => Class::Refused,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Keyslot(_) => "The header may have been replaced; compare it with a backup",
            Self::Unbound | Self::FenceIneffective => {
                "Enrol with `cvm-unlock enroll`, or let the image's configuration opt in under \"policy\""
            }
            Self::Header(source) => source.hint(),
            Self::BindingViolated => "Somebody edited the header; restore it from a backup",
            Self::Unauthenticated(_) => {
                "Enrol with --sign-key= and name its public half under \"authentic\" in the image's configuration"
            }
            Self::SignatureInvalid => "The token was edited or taken from another volume; restore the header",
            Self::OtherVolume => {
                "The header was edited, or the key document at the server is another volume's"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Policy =
        Policy { require_authentic: true, require_binding: true, require_fence: true, allow_unbound: false };
    const LAX: Policy = Policy {
        require_authentic: false,
        require_binding: false,
        require_fence: false,
        allow_unbound: true,
    };
    const PROVEN: Facts =
        Facts { bound: Bound::Yes, fence_effective: true, authentic: Verdict::Proven(Authenticity::Pinned) };

    fn unproven(missing: Missing) -> Facts {
        Facts { authentic: Verdict::Missing(missing), ..PROVEN }
    }

    #[test]
    fn a_proven_volume_opens_without_a_warning() {
        let proven = Proven { bound: true, authenticity: Some(Authenticity::Pinned) };
        assert_eq!(judge(PROVEN, &STRICT).unwrap(), (proven, vec![]));
    }

    #[test]
    fn each_missing_proof_is_refused_by_its_name_or_warned_of_by_the_same_name() {
        for (facts, slug) in [
            (Facts { bound: Bound::No, ..PROVEN }, "binding-missing"),
            (Facts { fence_effective: false, ..PROVEN }, "fence-ineffective"),
            (unproven(Missing::Proof), "volume-unauthenticated"),
            (unproven(Missing::UnknownSigner), "owner-unknown"),
            (unproven(Missing::NotPinned), "volume-key-not-pinned"),
        ] {
            assert_eq!(judge(facts, &STRICT).unwrap_err().slug(), slug);
            let (_, warnings) = judge(facts, &LAX).unwrap();
            assert_eq!(warnings.iter().map(|warning| warning.slug.as_str()).collect::<Vec<_>>(), [slug]);
        }
    }

    #[test]
    fn no_configuration_accepts_a_violated_binding_signature_or_pin() {
        for (facts, slug) in [
            (Facts { bound: Bound::Violated, ..PROVEN }, "binding-violated"),
            (Facts { authentic: Verdict::Invalid, ..PROVEN }, "owner-signature-invalid"),
            (Facts { authentic: Verdict::OtherVolume, ..PROVEN }, "broker-names-another-volume"),
        ] {
            assert_eq!(judge(facts, &LAX).unwrap_err().slug(), slug);
        }
    }
}
