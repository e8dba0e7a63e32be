//! The steps of a policy session, in the order in which a TPM executes them.

use sha2::{Digest, Sha256};

use crate::base::pcr::{Bank, PcrMask};

/// One step of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyStep {
    /// `TPM2_PolicyPCR` over the PCRs as they are.
    Pcr(Bank, PcrMask),
    /// `TPM2_PolicyAuthorize`: a key approved the digest that the earlier steps produced.
    Authorize(Box<Authorization>),
}

/// A policy that a key approved. The TPM checks the signature and issues a ticket for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The key's marshalled `TPMT_PUBLIC`, of an RSA key.
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
