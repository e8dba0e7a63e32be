//! Whether a TPM takes part, and the measured word that none does.

use serde::{Deserialize, Serialize};

/// Whether a TPM has to be there. A host can hide one, so its absence is final unless the image says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TpmRequirement {
    /// Without a TPM the boot fails.
    #[default]
    Required,
    /// No TPM is asked, even if there is one: the key broker alone decides, by the evidence of another platform.
    None,
}

/// The measured configuration's word that no TPM takes part: nothing can be unsealed, and there is no PCR to fence.
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
