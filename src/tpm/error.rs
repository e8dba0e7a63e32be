//! What can go wrong at the TPM: a verb and a return code come in, a failure with a class of its own goes out.

use std::io;

use thiserror::Error;

use super::verb::Verb;
use crate::base::error::failures;
use crate::format::tpm2::rc::RcClass;

/// Why the TPM did not do what we asked for.
#[derive(Debug, Error)]
pub enum TpmError {
    /// No device node.
    #[error("TPM {device} is not there")]
    Absent {
        /// What we tried to open.
        device: String,
        /// The operating system's word.
        source: io::Error,
    },
    /// `/dev/tpm0` can be open once only.
    #[error("TPM {device} is in use by another process")]
    Busy {
        /// What we tried to open.
        device: String,
        /// The operating system's word.
        source: io::Error,
    },
    /// Any other failure to open it.
    #[error("OpenFault the TPM {device}")]
    Open {
        /// What we tried to open.
        device: String,
        /// The operating system's word.
        source: io::Error,
    },
    /// The connection to the TPM could not be made, or broke, or what came is no answer.
    #[error("{verb}: no proper answer from the TPM ({rc:#x})")]
    Transport {
        /// What we asked for.
        verb: Verb,
        /// TSS return code.
        rc: u32,
    },
    /// The TPM kept asking us to come back later.
    #[error("{verb}: the TPM is still busy after {WAITED} s ({rc:#x})")]
    Transient {
        /// What we asked for.
        verb: Verb,
        /// Return code.
        rc: u32,
    },
    /// Dictionary attack lockout.
    #[error("{verb}: the TPM is in dictionary attack lockout")]
    Lockout {
        /// What we asked for.
        verb: Verb,
    },
    /// No room for an object or a session, even after strays were flushed.
    #[error("{verb}: the TPM has no room left ({rc:#x})")]
    Memory {
        /// What we asked for.
        verb: Verb,
        /// Return code.
        rc: u32,
    },
    /// The session's policy is not the object's: a PCR has another value than the one sealed to.
    #[error("PCR values are not the enrolled ones")]
    PcrMismatch,
    /// PCRs were extended between the policy and its use, again and again.
    #[error("PCRs keep changing while the policy is evaluated")]
    PcrChanged,
    /// A signed policy's signature is not its key's.
    #[error("Signature of the policy is not by the token's key")]
    SignatureInvalid,
    /// The object was sealed by another TPM, or under another parent.
    #[error("Sealed object belongs to another TPM ({rc:#x})")]
    ForeignTpm {
        /// Return code of the attempt.
        rc: u32,
    },
    /// The parent key's handle is empty, and the key cannot be derived again.
    #[error("Parent key is not in the TPM")]
    SrkAbsent,
    /// There is a parent key, but it is not the one of the token.
    #[error("Parent key in the TPM is another than the enrolled one")]
    SrkOther,
    /// The owner hierarchy has a password.
    #[error("{verb}: the owner hierarchy of the TPM has a password")]
    OwnerAuth {
        /// What we asked for.
        verb: Verb,
    },
    /// The endorsement hierarchy has a password.
    #[error("{verb}: the endorsement hierarchy of the TPM has a password")]
    EndorsementAuth {
        /// What we asked for.
        verb: Verb,
    },
    /// A PCR is not implemented in that bank.
    #[error("PCR {pcr} of bank {bank} cannot be read")]
    PcrUnreadable {
        /// The PCR.
        pcr: crate::base::pcr::Pcr,
        /// The bank.
        bank: crate::base::pcr::Bank,
    },
    /// The response does not carry the session's HMAC: somebody between us and the TPM wrote it.
    #[error("{verb}: the response of the TPM is not authentic")]
    Forged {
        /// What we asked for.
        verb: Verb,
    },
    /// Any other return code.
    #[error("{verb}: the TPM refuses ({rc:#x})")]
    Refused {
        /// What we asked for.
        verb: Verb,
        /// Return code.
        rc: u32,
    },
    /// The library could not express what we asked for, or could not read the answer.
    #[error("{doing}: {what}")]
    Library {
        /// What we were doing.
        doing: &'static str,
        /// The library's word.
        what: String,
    },
}

/// What a failure says about the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It answered: not for this object, or not in this state. Another object may fare better.
    No,
    /// It does not answer as a TPM does. It will open nothing, and it vouches for nothing.
    None,
    /// A defect of ours or of the library, which says nothing about the TPM.
    Unknown,
}

impl TpmError {
    /// What this failure says about the TPM. A lockout is an answer: our own objects are exempt from it.
    #[must_use]
    pub const fn answer(&self) -> Answer {
        match self {
            Self::PcrMismatch
            | Self::SignatureInvalid
            | Self::ForeignTpm { .. }
            | Self::SrkAbsent
            | Self::SrkOther
            | Self::Lockout { .. }
            | Self::OwnerAuth { .. }
            | Self::EndorsementAuth { .. }
            | Self::PcrUnreadable { .. }
            | Self::Refused { .. } => Answer::No,
            Self::Absent { .. }
            | Self::Busy { .. }
            | Self::Open { .. }
            | Self::Transport { .. }
            | Self::Transient { .. }
            | Self::Memory { .. }
            | Self::PcrChanged
            | Self::Forged { .. } => Answer::None,
            Self::Library { .. } => Answer::Unknown,
        }
    }

    /// The failure that `rc`, the answer to `verb`, stands for.
    #[must_use]
    pub fn from_rc(verb: Verb, rc: u32) -> Self {
        match (RcClass::of(rc), verb) {
            (RcClass::Transport, _) => Self::Transport { verb, rc },
            (RcClass::Transient, _) => Self::Transient { verb, rc },
            (RcClass::Lockout, _) => Self::Lockout { verb },
            (RcClass::Memory, _) => Self::Memory { verb, rc },
            (RcClass::PolicyFailed, Verb::Unseal) => Self::PcrMismatch,
            (RcClass::PcrChanged, _) => Self::PcrChanged,
            (RcClass::Integrity, Verb::Load | Verb::Import) => Self::ForeignTpm { rc },
            // What was encrypted for the parent does not decrypt: RSA gives VALUE, or FAILURE by swtpm.
            (RcClass::Unsupported | RcClass::Failure, Verb::Import) => Self::ForeignTpm { rc },
            (RcClass::Signature, Verb::VerifySignature) => Self::SignatureInvalid,
            // The session's digest is not the approved one, which was computed from values read before.
            (RcClass::Unsupported, Verb::PolicyAuthorize) => Self::PcrChanged,
            (RcClass::Handle, Verb::Load | Verb::Import | Verb::StartAuthSession | Verb::ReadPublic) => {
                Self::SrkAbsent
            }
            // The parent has an auth value, or is no storage key; or the salt went to another key than the TPM's.
            (
                RcClass::Auth | RcClass::Type,
                Verb::Load | Verb::Import | Verb::StartAuthSession | Verb::Unseal,
            ) => Self::SrkOther,
            (RcClass::Auth, Verb::CreatePrimary | Verb::EvictControl) => Self::OwnerAuth { verb },
            (RcClass::Forged, _) => Self::Forged { verb },
            _ => Self::Refused { verb, rc },
        }
    }
}

failures! { TpmError:
    Self::Absent { .. } => "tpm-absent", Unavailable, "";
    Self::Busy { .. } => "tpm-busy", Unavailable,
        "use the resource manager /dev/tpmrm0, or end the process that holds the TPM";
    Self::Open { .. } => "tpm-open", Os, "";
    Self::Transport { .. } => "tpm-transport", Unavailable, "";
    Self::Transient { .. } => "tpm-transient", Unavailable, "";
    Self::Lockout { .. } => "tpm-lockout", Refused,
        "wait, or reset the lockout with its authorisation; retrying makes it worse";
    Self::Memory { .. } => "tpm-memory", Unavailable, "";
    Self::PcrMismatch => "pcr-mismatch", Refused,
        "firmware, Secure Boot state or UKI changed since enrolment: enrol again from a trusted boot";
    Self::PcrChanged => "pcr-changed", Refused, "";
    Self::SignatureInvalid => "signature-invalid", Refused, "";
    Self::ForeignTpm { .. } => "tpm-foreign", Refused,
        "the disk was enrolled with another TPM, or this one was cleared: enrol again";
    Self::SrkAbsent => "srk-absent", Refused,
        "the disk was enrolled with another TPM, or this one was cleared: enrol again";
    Self::SrkOther => "srk-other", Refused,
        "the disk was enrolled with another TPM, or this one was cleared: enrol again";
    Self::OwnerAuth { .. } => "tpm-owner-auth", Refused, "";
    Self::EndorsementAuth { .. } => "tpm-endorsement-auth", Refused,
        "attestation derives its key in the endorsement hierarchy: remove that password";
    Self::PcrUnreadable { .. } => "pcr-unreadable", Refused, "";
    Self::Forged { .. } => "tpm-forged", Refused, "";
    Self::Refused { .. } => "tpm-refused", Refused, "";
    Self::Library { .. } => "tpm-library", Internal, "";
}

/// Seconds for which a transient answer is retried; the kernel waits two for its own long commands.
pub(super) const WAITED: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;

    #[test]
    fn return_codes_have_their_slugs() {
        for (verb, rc, slug) in [
            (Verb::Unseal, 0x99d, "pcr-mismatch"),
            (Verb::Unseal, 0x128, "pcr-changed"),
            (Verb::Unseal, 0x921, "tpm-lockout"),
            (Verb::Unseal, 0x98e, "srk-other"),
            (Verb::Load, 0x1df, "tpm-foreign"),
            (Verb::Load, 0x1d5, "tpm-foreign"),
            (Verb::Import, 0x1df, "tpm-foreign"),
            (Verb::Import, 0x3c4, "tpm-foreign"),
            (Verb::Import, 0x101, "tpm-foreign"),
            (Verb::Load, 0x18b, "srk-absent"),
            (Verb::VerifySignature, 0x2db, "signature-invalid"),
            (Verb::PolicyAuthorize, 0x1c4, "pcr-changed"),
            (Verb::Load, 0x18a, "srk-other"),
            (Verb::Load, 0x902, "tpm-memory"),
            (Verb::StartAuthSession, 0x903, "tpm-memory"),
            (Verb::PcrExtend, 0x922, "tpm-transient"),
            (Verb::PcrExtend, 0x000c_0922, "tpm-transient"),
            (Verb::EvictControl, 0x9a2, "tpm-owner-auth"),
            (Verb::Unseal, 0x0007_001b, "tpm-forged"),
            (Verb::PcrRead, 0x000a_000a, "tpm-transport"),
            (Verb::PcrRead, 0x101, "tpm-refused"),
        ] {
            assert_eq!(TpmError::from_rc(verb, rc).slug(), slug, "{verb} {rc:#x}");
        }
    }
}
