//! Structures of the TPM 2.0 Library specification, as found on disks, in evidence and in policies.

pub mod attestation_key;
pub mod blob;
pub mod parent;
pub mod policy_authorize;
pub mod policy_pcr;
pub mod quote;
pub mod rc;
pub mod srk;
pub mod step;
pub mod template;
