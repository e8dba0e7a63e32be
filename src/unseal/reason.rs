//! Why a token gave no secret: errors of parsing, of the plan and of the TPM come in; slugs, words, and whether another
//! token may still open go out.

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
    /// No token for a TPM.
    #[error("The volume has no token for a TPM")]
    NoToken,
    /// None of them gave its secret; this one came nearest.
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
    Refused(#[from] Refusal),
    /// The TPM does not open it.
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
