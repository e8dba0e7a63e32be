//! The TPM, behind the trait [`Tpm`].
//!
//! The host can hide the TPM or present one of its own, so an answer proves nothing by itself.

pub mod device;
pub mod error;
#[cfg(feature = "native")]
pub mod esapi;
#[cfg(test)]
pub(crate) mod fake;
pub mod readings;
pub mod retry;
mod verb;

pub use device::Device;
pub use error::{Answer, TpmError};
pub use verb::Verb;

use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::base::secret::Secret;
use crate::format::tpm2::attestation_key::AttestationKey;
use crate::format::tpm2::blob::Sealed;
use crate::format::tpm2::parent::Parent;
use crate::format::tpm2::quote::Quote;
use crate::format::tpm2::srk::Srk;
use crate::format::tpm2::step::PolicyStep;

/// The operations that we need from a TPM. An implementation leaves nothing loaded in the TPM, whatever the
/// outcome; the caller releases what [`Tpm::hold_attestation_key`] keeps there.
pub trait Tpm {
    /// The banks that the TPM extends.
    ///
    /// # Errors
    /// The TPM's.
    fn banks(&mut self) -> Result<Banks, TpmError>;

    /// The values of all PCRs in `selection`, in its order.
    ///
    /// # Errors
    /// The TPM's; [`TpmError::PcrUnreadable`] if the TPM omits one.
    fn read_pcrs(&mut self, selection: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError>;

    /// The value of `pcr` in every bank that has it and that we support, with one command; and what the same
    /// command yields of `also`, which may be nothing. One item for each bank.
    ///
    /// # Errors
    /// The TPM's.
    fn read_everywhere(&mut self, pcr: Pcr, also: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError>;

    /// Extends `pcr` in all banks of `digests`, with one command.
    ///
    /// # Errors
    /// The TPM's.
    fn extend(&mut self, pcr: Pcr, digests: &[(Bank, Vec<u8>)]) -> Result<(), TpmError>;

    /// Unseals `sealed`: loads it below `parent` (imports it first if it was made elsewhere), satisfies its
    /// policy by `steps`, and returns its secret. The session is salted with the parent, and the response is
    /// encrypted.
    ///
    /// # Errors
    /// The TPM's, a variant for each class.
    fn unseal(&mut self, sealed: &Sealed, parent: &Parent, steps: &[PolicyStep]) -> Result<Secret, TpmError>;

    /// Seals `secret` to a policy digest (SHA-256), below the persistent key `parent`. Without one, below the
    /// storage root key, which is created and made persistent if it does not exist.
    ///
    /// # Errors
    /// The TPM's.
    fn seal(
        &mut self,
        secret: &Secret,
        policy: &[u8; 32],
        parent: Option<u32>,
    ) -> Result<(Sealed, Srk), TpmError>;

    /// The attestation key, which is the same at every boot until the TPM's endorsement seed changes.
    ///
    /// # Errors
    /// The TPM's.
    fn attestation_key(&mut self) -> Result<AttestationKey, TpmError>;

    /// Derives the attestation key and keeps it loaded for later quotes, until [`Tpm::release`]. An
    /// implementation that does not keep it derives it for each quote.
    ///
    /// # Errors
    /// The TPM's.
    fn hold_attestation_key(&mut self) -> Result<(), TpmError> {
        Ok(())
    }

    /// Flushes the attestation key, if it is held.
    fn release(&mut self) {}

    /// Signs `nonce` and the present PCR values with the attestation key.
    ///
    /// # Errors
    /// The TPM's.
    fn quote(&mut self, nonce: &[u8; 32], bank: Bank, mask: PcrMask) -> Result<Quote, TpmError>;
}

/// The banks of a TPM, and what about them would make a fence ineffective.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Banks {
    /// Active banks that extend PCR 15, weakest first.
    pub active: Vec<Bank>,
    /// Active banks (`TPM_ALG_ID`) whose digests we cannot compute.
    pub unknown: Vec<u16>,
    /// Active banks without PCR 15.
    pub without_fence: Vec<Bank>,
}
