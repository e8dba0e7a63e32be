//! The TPM: its byte formats (pure, no C library) and, behind a trait, its verbs.
//!
//! The host can hide a TPM, or hand us one of its own: what answers here vouches for nothing by itself.

pub mod attestation_key;
pub mod blob;
pub mod device;
pub mod error;
#[cfg(feature = "native")]
pub mod esapi;
#[cfg(test)]
pub(crate) mod fake;
pub mod quote;
pub mod rc;
pub mod readings;
pub mod retry;
pub mod srk;
pub mod template;
mod verb;

pub use attestation_key::AttestationKey;
pub use device::Device;
pub use error::TpmError;
pub use quote::Quote;
pub use template::PrimaryAlg;
pub use verb::Verb;

use sha2::{Digest, Sha256};

use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::base::secret::Secret;
use blob::Sealed;
use srk::Srk;

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
    fn unseal(&mut self, sealed: &Sealed, parent: &Parent, steps: &[Step]) -> Result<Secret, TpmError>;

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

/// The key below which an object is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// A persistent key, as the token describes it: a consistency check against the TPM's, never a pin.
    Persistent(Srk),
    /// The primary key that systemd derived at each use, before it had a storage root key (up to v253).
    Legacy(PrimaryAlg),
}

/// One step of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `TPM2_PolicyPCR`: the PCRs as they are now.
    Pcr(Bank, PcrMask),
    /// `TPM2_PolicyAuthorize`: what the steps before came to is what a key approved.
    Authorize(Box<Authorization>),
}

/// A policy that a key approved. The TPM checks the signature and gives a ticket for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The key's marshalled `TPMT_PUBLIC`: RSA.
    pub key: Vec<u8>,
    /// The key's name.
    pub name: Vec<u8>,
    /// The digest of the approved policy.
    pub approved: [u8; 32],
    /// `policyRef`.
    pub reference: Vec<u8>,
    /// RSASSA-PKCS1-v1_5 with SHA-256 over [`Authorization::message`].
    pub signature: Vec<u8>,
}

impl Authorization {
    /// The digest that the key signed: `H(approved policy ‖ policyRef)` (TPM 2.0 Part 3, 23.16.1).
    #[must_use]
    pub fn message(&self) -> [u8; 32] {
        Sha256::new().chain_update(self.approved).chain_update(&self.reference).finalize().into()
    }
}
