//! A token of a report that opened nothing: the reason comes in, its members in the report go out.

use serde::{Deserialize, Serialize};

/// Why a token did not open the volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenReport {
    /// Number in the LUKS2 header.
    pub token: u32,
    /// Stable name of the reason.
    pub slug: String,
    /// One line.
    pub message: String,
    /// PCRs that have other values than those enrolled, where the token says which those were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcrs: Vec<PcrReport>,
}

/// A PCR that keeps a token from opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcrReport {
    /// Number.
    pub pcr: u8,
    /// Value at enrolment, in hexadecimal.
    pub enrolled: String,
    /// Value that was found, in hexadecimal.
    pub now: String,
}

impl TokenReport {
    /// Why token `token` did not open the volume.
    #[must_use]
    pub fn new(token: u32, slug: &str, message: String) -> Self {
        Self { token, slug: slug.to_owned(), message, pcrs: Vec::new() }
    }
}
