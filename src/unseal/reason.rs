//! Why a token gave no secret: errors of parsing, of the plan and of the TPM come in; slugs, words, and whether another
//! token may still open go out.

use thiserror::Error;

use super::Skipped;
use crate::base::error::failures;
use crate::format::luks::HeaderError;
use crate::format::token::TokenError;
use crate::policy::PolicyRefusal;
use crate::tpm::{Answer, TpmError};

/// Why a volume's secret was not unsealed.
#[derive(Debug, Error)]
pub enum UnsealError {
    /// No token for a TPM.
    #[error("The volume has no token for a TPM")]
    NoToken,
    /// None of them gave its secret; this one came nearest.
    #[error("Token {} does not open the volume", .0.token)]
    Refused(#[source] Skipped),
}

failures! { UnsealError:
    Self::NoToken => "token-none", Data, "Enrol the volume: cvm-unlock enroll";
    Self::Refused(Skipped { reason, .. }) => from reason;
}

/// Why a token gave no secret.
#[derive(Debug, Error)]
pub enum Reason {
    /// It cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its keyslot is not there, or not one that we try.
    #[error(transparent)]
    Keyslot(#[from] HeaderError),
    /// We do not ask the TPM.
    #[error(transparent)]
    Refused(#[from] PolicyRefusal),
    /// The TPM does not open it.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

failures! { Reason:
    Self::Token(error) => from error;
    Self::Keyslot(error) => from error;
    Self::Refused(error) => from error;
    Self::Tpm(error) => from error;
}

/// Whether a reason concerns one token or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextToken {
    /// Another token may open.
    Token,
    /// The TPM will not open any.
    Stop,
}

impl NextToken {
    /// The decision. No token is tried twice.
    #[must_use]
    pub const fn after(reason: &Reason) -> Self {
        match reason {
            Reason::Token(_) | Reason::Keyslot(_) | Reason::Refused(_) => Self::Token,
            Reason::Tpm(error) => match error.answer() {
                Answer::None => Self::Stop,
                Answer::No | Answer::Unknown => Self::Token,
            },
        }
    }
}
