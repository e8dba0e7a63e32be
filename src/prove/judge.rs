//! Decides whether what is known about a volume is enough to open it. Pure.

use super::authentic::{Authenticity, Verdict};
use super::error::ProveError;
use super::settings::Policy;
use crate::base::error::Failure;
use crate::base::warning::Warning;

/// The proofs of an accepted volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The keyslot's metadata is what was bound to the sealed secret.
    pub bound: bool,
    /// What shows that the owner made the volume.
    pub authenticity: Option<Authenticity>,
}

/// Whether the keyslot's metadata is what was bound at enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Yes,
    No,
    Violated,
}

/// What is known about a volume whose keyslot opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) bound: Bound,
    /// The token's policy binds PCR 15, which was zero at entry.
    pub(super) fence_effective: bool,
    /// Whether the owner made it.
    pub(super) authentic: Verdict,
}

/// Decides. A missing proof is an error, or a warning if the configuration allows that. An invalid binding or
/// signature is always an error.
pub(super) fn judge(facts: Facts, policy: &Policy) -> Result<(Proven, Vec<Warning>), ProveError> {
    let mut warnings = Vec::new();
    let mut missing = |required: bool, refusal: ProveError| {
        if required {
            return Err(refusal);
        }
        warnings.push(Warning::new(refusal.slug(), refusal.to_string()));
        Ok(())
    };
    let bound = match facts.bound {
        Bound::Yes => true,
        Bound::No => {
            missing(policy.require_binding, ProveError::Unbound)?;
            false
        }
        Bound::Violated => return Err(ProveError::BindingViolated),
    };
    if !facts.fence_effective {
        missing(policy.require_fence, ProveError::FenceIneffective)?;
    }
    let authenticity = match facts.authentic {
        Verdict::Proven(authenticity) => Some(authenticity),
        Verdict::Missing(proof) => {
            missing(policy.require_authentic, ProveError::Unauthenticated(proof))?;
            None
        }
        Verdict::Invalid => return Err(ProveError::SignatureInvalid),
        Verdict::OtherVolume => return Err(ProveError::OtherVolume),
    };
    Ok((Proven { bound, authenticity }, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::authentic::Missing;

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
