//! Why a token released no secret, with slugs and messages, and whether to try another one.

use thiserror::Error;

use super::Skipped;
use crate::base::error::{Class, Failure};
use crate::format::luks::HeaderError;
use crate::format::token::TokenError;
use crate::policy::Refusal;
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

impl Failure for UnsealError {
    fn slug(&self) -> &'static str {
        match self {
            Self::NoToken => "token-none",
            Self::Refused(skipped) => skipped.reason.slug(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::NoToken => Class::Data,
            Self::Refused(skipped) => skipped.reason.class(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::NoToken => "Enrol the volume: cvm-unlock enroll",
            Self::Refused(skipped) => skipped.reason.hint(),
        }
    }
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
    Refused(#[from] Refusal),
    /// The TPM did not open it.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl Failure for Reason {
    fn slug(&self) -> &'static str {
        match self {
            Self::Token(error) => error.slug(),
            Self::Keyslot(error) => error.slug(),
            Self::Refused(error) => error.slug(),
            Self::Tpm(error) => error.slug(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Token(error) => error.class(),
            Self::Keyslot(error) => error.class(),
            Self::Refused(error) => error.class(),
            Self::Tpm(error) => error.class(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Token(error) => error.hint(),
            Self::Keyslot(error) => error.hint(),
            Self::Refused(error) => error.hint(),
            Self::Tpm(error) => error.hint(),
        }
    }
}

/// Whether a reason concerns one token or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another token may open.
    Token,
    /// The TPM will not open any.
    Stop,
}

impl Next {
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
