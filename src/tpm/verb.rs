//! The TPM commands that we send, as errors name them.

use std::fmt;

/// A TPM command that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `TPM2_Startup`
    Startup,
    /// `TPM2_GetCapability`
    GetCapability,
    /// `TPM2_PCR_Read`
    PcrRead,
    /// `TPM2_PCR_Extend`
    PcrExtend,
    /// `TPM2_StartAuthSession`
    StartAuthSession,
    /// `TPM2_PolicyPCR`
    PolicyPcr,
    /// `TPM2_PolicyAuthorize`
    PolicyAuthorize,
    /// `TPM2_PolicyRestart`
    PolicyRestart,
    /// `TPM2_LoadExternal`
    LoadExternal,
    /// `TPM2_VerifySignature`
    VerifySignature,
    /// `TPM2_Import`
    Import,
    /// `TPM2_Load`
    Load,
    /// `TPM2_Unseal`
    Unseal,
    /// `TPM2_ReadPublic`
    ReadPublic,
    /// `TPM2_Create`
    Create,
    /// `TPM2_CreatePrimary`
    CreatePrimary,
    /// `TPM2_EvictControl`
    EvictControl,
    /// `TPM2_Quote`
    Quote,
    /// `TPM2_FlushContext`
    FlushContext,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TPM2_{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_called_as_in_the_specification() {
        assert_eq!(Verb::StartAuthSession.to_string(), "TPM2_StartAuthSession");
    }
}
