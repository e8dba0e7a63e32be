//! Whether a TPM is required, or waived by the measured configuration.

use serde::{Deserialize, Serialize};

/// Whether a TPM is required. A host can hide it, so without one the boot fails unless the image says
/// otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TpmRequirement {
    /// Without a TPM the boot fails.
    #[default]
    Required,
    /// No TPM is used, even if there is one: only the key broker decides, by the evidence of another
    /// platform.
    None,
}

/// Proof that the measured configuration waives the TPM: nothing can be unsealed, and there is no PCR to
/// fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiver(());

impl TpmRequirement {
    /// The waiver, if the configuration gives one.
    #[must_use]
    pub const fn waiver(self) -> Option<Waiver> {
        match self {
            Self::Required => None,
            Self::None => Some(Waiver(())),
        }
    }
}
