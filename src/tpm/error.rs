//! TPM errors, classified by the command that failed and its return code.

use std::io;

use thiserror::Error;

use super::verb::Verb;
use crate::base::error::failures;
use crate::format::tpm2::rc::RcClass;

/// Why the TPM did not do what we asked.
#[derive(Debug, Error)]
pub enum TpmError {
    /// No device node.
    #[error("TPM {device} is not there")]
    Absent {
        /// What we tried to open.
        device: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// `/dev/tpm0` is in use: only one process can open it.
    #[error("TPM {device} is in use by another process")]
    Busy {
        /// What we tried to open.
        device: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// Any other failure to open it.
    #[error("OpenFault the TPM {device}")]
    Open {
        /// What we tried to open.
        device: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The connection to the TPM failed, or the answer was not a TPM's.
    #[error("{verb}: no proper answer from the TPM ({rc:#x})")]
    Transport {
        /// The command.
        verb: Verb,
        /// TSS return code.
        rc: u32,
    },
    /// The TPM kept asking us to retry later.
    #[error("{verb}: the TPM is still busy after {WAITED} s ({rc:#x})")]
    Transient {
        /// The command.
        verb: Verb,
        /// Return code.
        rc: u32,
    },
    /// Dictionary attack lockout.
    #[error("{verb}: the TPM is in dictionary attack lockout")]
    Lockout {
        /// The command.
        verb: Verb,
    },
    /// No room for an object or a session, even after flushing strays.
    #[error("{verb}: the TPM has no room left ({rc:#x})")]
    Memory {
        /// The command.
        verb: Verb,
        /// Return code.
        rc: u32,
    },
    /// The session's policy is not the object's: a PCR differs from the value that was sealed to.
    #[error("PCR values are not the enrolled ones")]
    PcrMismatch,
    /// PCRs were extended between a policy and its use, in every attempt.
    #[error("PCRs keep changing while the policy is evaluated")]
    PcrChanged,
    /// A signed policy's signature does not verify under its key.
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
    /// There is a parent key, but not the token's.
    #[error("Parent key in the TPM is another than the enrolled one")]
    SrkOther,
    /// The owner hierarchy has a password.
    #[error("{verb}: the owner hierarchy of the TPM has a password")]
    OwnerAuth {
        /// The command.
        verb: Verb,
    },
    /// The endorsement hierarchy has a password.
    #[error("{verb}: the endorsement hierarchy of the TPM has a password")]
    EndorsementAuth {
        /// The command.
        verb: Verb,
    },
    /// The bank does not implement this PCR.
    #[error("PCR {pcr} of bank {bank} cannot be read")]
    PcrUnreadable {
        /// The PCR.
        pcr: crate::base::pcr::Pcr,
        /// The bank.
        bank: crate::base::pcr::Bank,
    },
    /// The response lacks the session's HMAC: somebody between us and the TPM forged it.
    #[error("{verb}: the response of the TPM is not authentic")]
    Forged {
        /// The command.
        verb: Verb,
    },
    /// Any other return code.
    #[error("{verb}: the TPM refuses ({rc:#x})")]
    Refused {
        /// The command.
        verb: Verb,
        /// Return code.
        rc: u32,
    },
    /// The library could not encode the request or decode the answer.
    #[error("{doing}: {what}")]
    Library {
        /// What we were doing.
        doing: &'static str,
        /// The library's error.
        what: String,
    },
}

/// What a failure says about the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It refused this object, or refused in this state. Another object may work.
    No,
    /// It does not answer as a TPM does. It will open nothing, and nothing it says counts.
    None,
    /// A defect in our code or in the library, which says nothing about the TPM.
    Unknown,
}

impl TpmError {
    /// What this failure says about the TPM. A lockout is an ordinary refusal: our own objects are exempt
    /// from it.
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

    /// The failure for `rc`, the answer to `verb`.
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
            // What was encrypted for the parent does not decrypt: an RSA parent returns VALUE, or FAILURE in
            // swtpm.
            (RcClass::Unsupported | RcClass::Failure, Verb::Import) => Self::ForeignTpm { rc },
            (RcClass::Signature, Verb::VerifySignature) => Self::SignatureInvalid,
            // The session's digest is not the approved one, which was computed from values read earlier.
            (RcClass::Unsupported, Verb::PolicyAuthorize) => Self::PcrChanged,
            (RcClass::Handle, Verb::Load | Verb::Import | Verb::StartAuthSession | Verb::ReadPublic) => {
                Self::SrkAbsent
            }
            // The parent has an auth value, or is not a storage key; or the salt was encrypted to a key that
            // the TPM does not have.
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

/// Seconds for which a transient answer is retried. The kernel waits two for its own long commands.
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
