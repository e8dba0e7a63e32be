//! Warnings: what an operator should know although nothing failed.

use serde::{Deserialize, Serialize};

/// A warning for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Stable name.
    pub slug: String,
    /// One line.
    pub message: String,
}

impl Warning {
    /// A warning with a stable name.
    #[must_use]
    pub fn new(slug: &str, message: impl Into<String>) -> Self {
        Self { slug: slug.to_owned(), message: message.into() }
    }
}
