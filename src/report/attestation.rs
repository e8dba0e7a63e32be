//! Remote attestation in a report: who released the key comes in, its members in the report go out.

use serde::{Deserialize, Serialize};

use crate::attest::Provenance;

/// Who released the volume's key, and to what evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationReport {
    /// The server's address.
    pub server: String,
    /// What it was recognised by.
    pub pin: String,
    /// The protocol's version.
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
