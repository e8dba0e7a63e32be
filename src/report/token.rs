//! The part of a report about a token that opened nothing.

use serde::{Deserialize, Serialize};

/// Why a token did not open the volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenReport {
    /// Device of its volume; empty if the volume was named on the command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// Number in the LUKS2 header.
    pub token: u32,
    /// Stable name of the reason.
    pub slug: String,
    /// One line.
    pub message: String,
    /// PCRs that differ from their enrolled values, if the token recorded those.
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
    /// Present value, in hexadecimal.
    pub now: String,
}

impl TokenReport {
    /// Why token `token` did not open the volume.
    #[must_use]
    pub fn new(token: u32, slug: &str, message: String) -> Self {
        Self { device: String::new(), token, slug: slug.to_owned(), message, pcrs: Vec::new() }
    }
}
