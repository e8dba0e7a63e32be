//! Why a token is not tried, with a slug, a message and a hint for each reason.

use thiserror::Error;

use super::key::KeyError;
use crate::base::error::failures;
use crate::base::hex;
use crate::base::pcr::{Bank, PcrMask};
use crate::format::pcr_signature::Subject;

/// Why a token is not tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyRefusal {
    /// It requires a PIN.
    #[error("Token needs a PIN, and nobody is there to type it")]
    Pin,
    /// It unseals in every state of its TPM.
    #[error("Token is not bound to any state of the machine")]
    Unbound,
    /// The key of its signed policy is not usable.
    #[error("Token's policy key cannot be used")]
    PolicyKey(#[source] KeyError),
    /// There is no signature for the present PCR values.
    #[error("No signature for the present values of {}; {}", about(subject), found(*others))]
    NotSigned {
        /// What we searched for.
        subject: Box<Subject>,
        /// How many signatures have the same subject but are for other values.
        others: usize,
    },
    /// A PCR value that the policy binds is unknown.
    #[error("Values of PCRs {pcrs} of bank {bank} are not known")]
    PcrUnknown {
        /// The bank.
        bank: Bank,
        /// The PCRs.
        pcrs: PcrMask,
    },
    /// It has a pcrlock policy.
    #[error("Token's policy is systemd-pcrlock's, which is not supported yet")]
    Pcrlock,
    /// Its secret is split into two objects.
    #[error("Token's secret is split, which is not supported yet")]
    Sharded,
    /// Its members contradict each other.
    #[error("Token's policy is not that of its sealed object")]
    Inconsistent,
    /// Its bank is not active.
    #[error("Token's PCR bank {0} is not active in the TPM")]
    BankInactive(Bank),
    /// Its policy does not bind PCR 15.
    #[error("Token's policy leaves PCR 15 out: its secret could be unsealed again in the same boot")]
    FenceIneffective,
}

failures! { PolicyRefusal:
    Self::Pin => "token-pin", Refused, "enrol with cvm-unlock enroll";
    Self::Unbound => "token-unbound", Refused,
        "enrol with --tpm2-pcrs=, or set policy.allow_unbound in the measured configuration";
    Self::PolicyKey(_) => "token-policy-key", Data, "";
    Self::NotSigned { .. } => "signature-missing", Refused,
        "boot a UKI whose .pcrsig section is signed with this key, or sign this state: systemd-measure sign";
    Self::PcrUnknown { .. } => "pcr-unknown", Refused, "";
    Self::Pcrlock => "token-pcrlock-unsupported", Refused, "enrol with cvm-unlock enroll";
    Self::Sharded => "token-sharded-unsupported", Refused, "enrol with cvm-unlock enroll";
    Self::Inconsistent => "token-inconsistent", Data, "";
    Self::BankInactive(_) => "bank-inactive", Refused, "enrol with cvm-unlock enroll";
    Self::FenceIneffective => "fence-ineffective", Refused,
        "enrol with cvm-unlock, or clear policy.require_fence in the measured configuration";
}

fn about(subject: &Subject) -> String {
    let reference = subject.reference.as_ref().map(|text| format!(" with reference {text:?}"));
    format!(
        "PCRs {} of bank {} by the key {}{}",
        subject.pcrs,
        subject.bank,
        hex::encode(&subject.fingerprint),
        reference.unwrap_or_default()
    )
}

fn found(others: usize) -> String {
    match others {
        0 => "none of other values either".to_owned(),
        1 => "one of other values was found".to_owned(),
        _ => format!("{others} of other values were found"),
    }
}
