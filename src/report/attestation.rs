//! The part of a report about remote attestation: who released the key.

use serde::{Deserialize, Serialize};

use crate::attest::Provenance;

/// Who released the volume's key, and for what evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationReport {
    /// The key broker's address.
    pub server: String,
    /// What identified it.
    pub pin: String,
    /// The protocol version.
    pub protocol: String,
    /// The platform whose evidence it accepted.
    pub tee: String,
    /// The resource that it released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl From<&Provenance> for AttestationReport {
    fn from(provenance: &Provenance) -> Self {
        Self {
            server: provenance.server.clone(),
            pin: provenance.pin.clone(),
            protocol: provenance.protocol.to_owned(),
            tee: provenance.tee.to_owned(),
            resource: provenance.resource.clone(),
        }
    }
}
