//! Why a token released no secret, with slugs and messages, and whether to try another one.

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
    /// The volume has no token for a TPM.
    #[error("The volume has no token for a TPM")]
    NoToken,
    /// No token released its secret; this one came closest.
    #[error("Token {} does not open the volume", .0.token)]
    Refused(#[source] Skipped),
}

failures! { UnsealError:
    Self::NoToken => "token-none", Data, "Enrol the volume: cvm-unlock enroll";
    Self::Refused(Skipped { reason, .. }) => from reason;
}

/// Why a token released no secret.
#[derive(Debug, Error)]
pub enum Reason {
    /// The token is malformed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its keyslot does not exist, or is not one that we try.
    #[error(transparent)]
    Keyslot(#[from] HeaderError),
    /// The TPM was not asked.
    #[error(transparent)]
    Refused(#[from] PolicyRefusal),
    /// The TPM did not open it.
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
