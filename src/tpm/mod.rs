//! The TPM: its byte formats (pure, no C library) and, behind a trait, its verbs.
//!
//! The host can hide a TPM, or hand us one of its own: what answers here vouches for nothing by itself.

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

/// The few things that we ask of a TPM. An implementation leaves nothing behind in the TPM, whatever the outcome; what
/// [`Tpm::hold_attestation_key`] keeps there is its caller's to release.
pub trait Tpm {
    /// Which banks the TPM extends.
    ///
    /// # Errors
    /// The TPM's.
    fn banks(&mut self) -> Result<Banks, TpmError>;

    /// The values of all PCRs asked for, in the order of `selection`.
    ///
    /// # Errors
    /// The TPM's; [`TpmError::PcrUnreadable`] if the TPM leaves one out.
    fn read_pcrs(&mut self, selection: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError>;

    /// The value of `pcr` in every bank that has it and that we know, with one command; and what of `also` the TPM gives
    /// with the same command, which may be nothing. One item for each bank.
    ///
    /// # Errors
    /// The TPM's.
    fn read_everywhere(&mut self, pcr: Pcr, also: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError>;

    /// Extends `pcr` in all banks of `digests`, with one command.
    ///
    /// # Errors
    /// The TPM's.
    fn extend(&mut self, pcr: Pcr, digests: &[(Bank, Vec<u8>)]) -> Result<(), TpmError>;

    /// Loads `sealed` below `parent`, after importing it if it was made elsewhere, satisfies its policy by `steps`, and gives its secret: through a session salted
    /// with the parent, the response encrypted.
    ///
    /// # Errors
    /// The TPM's, each class a variant of its own.
    fn unseal(&mut self, sealed: &Sealed, parent: &Parent, steps: &[PolicyStep]) -> Result<Secret, TpmError>;

    /// Seals `secret` to a policy digest (SHA-256), below the persistent key `parent`; without one, below the storage root
    /// key, which is created and made persistent if it is not there.
    ///
    /// # Errors
    /// The TPM's.
    fn seal(
        &mut self,
        secret: &Secret,
        policy: &[u8; 32],
        parent: Option<u32>,
    ) -> Result<(Sealed, Srk), TpmError>;

    /// The key that quotes: the same at every boot, until the TPM's endorsement seed is changed.
    ///
    /// # Errors
    /// The TPM's.
    fn attestation_key(&mut self) -> Result<AttestationKey, TpmError>;

    /// Derives the key that quotes and keeps it loaded for the quotes to come, until [`Tpm::release`]. A TPM that keeps nothing
    /// derives it for each quote.
    ///
    /// # Errors
    /// The TPM's.
    fn hold_attestation_key(&mut self) -> Result<(), TpmError> {
        Ok(())
    }

    /// Flushes the key that quotes, if it is held.
    fn release(&mut self) {}

    /// Signs `nonce` and the present values of PCRs by the attestation key.
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
    /// Active banks (`TPM_ALG_ID`) for which we cannot compute a digest.
    pub unknown: Vec<u16>,
    /// Active banks that leave PCR 15 out.
    pub without_fence: Vec<Bank>,
}
