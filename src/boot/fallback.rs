//! Decides after a refusal whether a key broker may still be asked. Pure.
//!
//! Attestation answers "is this machine in a state that the owner accepts?". A key broker is asked if the
//! TPM's answer to that was no, or if nothing was sealed to this TPM. Attestation does not help against a
//! host that lies: a refused header, an invalid binding or signature, or a PCR 15 that was extended before us
//! ends the boot.

use crate::attest::AttestError;
use crate::prove::ProveError;
use crate::tpm::Answer;
use crate::unseal::{Reason, UnsealError};

/// What may be tried next for a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    /// Ask a key broker, if the configuration names one.
    Attest,
    /// Nothing: the host lies, or nobody can vouch for the machine.
    Final,
}

impl Fallback {
    /// Decides after the TPM released no secret.
    pub(super) const fn after(error: &UnsealError) -> Self {
        match error {
            UnsealError::NoToken => Self::Attest,
            UnsealError::Refused(skipped) => Self::after_token(&skipped.reason),
        }
    }

    /// Decides after one token that released no secret.
    pub(super) const fn after_token(reason: &Reason) -> Self {
        match reason {
            // No token that this image could use: another kind, a PIN, or a policy without a signature.
            Reason::Token(_) | Reason::Refused(_) => Self::Attest,
            Reason::Keyslot(_) => Self::Final,
            Reason::Tpm(error) => match error.answer() {
                // The state or the TPM is not the one that was sealed to.
                Answer::No => Self::Attest,
                Answer::None | Answer::Unknown => Self::Final,
            },
        }
    }

    /// Decides after a secret from the TPM. A key broker can make up for what the token lacks, but not for an
    /// invalid proof.
    pub(super) const fn after_secret(error: &ProveError) -> Self {
        match error {
            ProveError::Unbound | ProveError::FenceIneffective | ProveError::Unauthenticated(_) => {
                Self::Attest
            }
            ProveError::Keyslot(_)
            | ProveError::Header(_)
            | ProveError::BindingViolated
            | ProveError::SignatureInvalid
            | ProveError::OtherVolume => Self::Final,
        }
    }

    /// Combines two decisions: one that is final is enough.
    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Attest, Self::Attest) => Self::Attest,
            _ => Self::Final,
        }
    }
}

/// What a failed attestation affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// This volume; another volume has another key.
    Volume,
    /// The whole boot: key brokers release no key for any volume.
    Boot,
}

impl Scope {
    /// Decides after an error of the key brokers.
    pub(super) const fn of(error: &AttestError) -> Self {
        match error {
            AttestError::AtServer { fault, .. } if fault.is_about_the_key() => Self::Volume,
            AttestError::AtServer { .. } | AttestError::NotConfigured | AttestError::NoTime => Self::Boot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::Fault;
    use crate::format::token::TokenError;
    use crate::policy::PolicyRefusal;
    use crate::tpm::{TpmError, Verb};
    use crate::unseal::{NextToken, Skipped};

    fn refused(reason: Reason) -> UnsealError {
        UnsealError::Refused(Skipped { token: 0, reason, mismatch: None })
    }

    #[test]
    fn another_state_or_another_tpm_may_be_attested() {
        let verb = Verb::Unseal;
        for reason in [
            Reason::from(TokenError::OtherType),
            PolicyRefusal::Pin.into(),
            TpmError::PcrMismatch.into(),
            TpmError::SignatureInvalid.into(),
            TpmError::SrkAbsent.into(),
            TpmError::SrkOther.into(),
            TpmError::OwnerAuth { verb }.into(),
            TpmError::EndorsementAuth { verb }.into(),
            TpmError::Lockout { verb }.into(),
            TpmError::ForeignTpm { rc: 0x1df }.into(),
            TpmError::Refused { verb, rc: 0x101 }.into(),
        ] {
            assert_eq!(Fallback::after(&refused(reason)), Fallback::Attest);
        }
        assert_eq!(Fallback::after(&UnsealError::NoToken), Fallback::Attest);
    }

    #[test]
    fn a_tpm_that_opens_nothing_at_all_is_no_reason_to_ask_anybody() {
        let (verb, rc, device) = (Verb::Unseal, 0xa000a, String::new);
        let source = || std::io::Error::from(std::io::ErrorKind::NotFound);
        for error in [
            TpmError::Absent { device: device(), source: source() },
            TpmError::Busy { device: device(), source: source() },
            TpmError::Open { device: device(), source: source() },
            TpmError::Transport { verb, rc },
            TpmError::Transient { verb, rc },
            TpmError::Memory { verb, rc },
            TpmError::Forged { verb },
            TpmError::PcrChanged,
        ] {
            let reason = Reason::from(error);
            assert_eq!(NextToken::after(&reason), NextToken::Stop);
            assert_eq!(Fallback::after(&refused(reason)), Fallback::Final);
        }
    }

    #[test]
    fn a_keyslot_that_is_refused_is_final_as_the_whole_header_is() {
        let refused = refused(crate::format::luks::HeaderError::NoSuchKeyslot(3).into());
        assert_eq!(Fallback::after(&refused), Fallback::Final);
    }

    #[test]
    fn what_a_token_lacks_may_be_made_up_for_and_what_does_not_hold_may_not() {
        use crate::prove::authentic::Missing;
        let missing = [Missing::Proof, Missing::UnknownSigner, Missing::NotPinned];
        let lacking = missing.map(ProveError::Unauthenticated).into_iter();
        for error in lacking.chain([ProveError::Unbound, ProveError::FenceIneffective]) {
            assert_eq!(Fallback::after_secret(&error), Fallback::Attest);
        }
        for error in [ProveError::BindingViolated, ProveError::SignatureInvalid, ProveError::OtherVolume] {
            assert_eq!(Fallback::after_secret(&error), Fallback::Final);
        }
        assert_eq!(Fallback::Attest.and(Fallback::Final), Fallback::Final);
        assert_eq!(Fallback::Attest.and(Fallback::Attest), Fallback::Attest);
    }

    #[test]
    fn a_denial_is_about_one_volume_and_a_dead_server_about_all() {
        let at = |fault| AttestError::AtServer { server: String::new(), fault };
        let text = String::new;
        for fault in [
            Fault::Denied { detail: text() },
            Fault::Missing { path: text(), detail: text() },
            Fault::Empty { path: text() },
        ] {
            assert_eq!(Scope::of(&at(fault)), Scope::Volume);
        }
        for fault in [Fault::Random, Fault::EvidenceRefused { detail: text() }, Fault::TooOld(text())] {
            assert_eq!(Scope::of(&at(fault)), Scope::Boot);
        }
        assert_eq!(Scope::of(&AttestError::NoTime), Scope::Boot);
    }
}
