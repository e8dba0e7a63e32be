//! Remote attestation: a key broker decides about the key when the TPM does not unseal it.
//!
//! Trust: the configuration pins the key brokers, and nobody else vouches for them. Their answers are parsed
//! as untrusted. Our evidence proves the machine's state to the key broker; the owner must make sure that the
//! key broker's policy demands enough.
//!
//! ```text
//!   settings ─▶ in_turn ─▶ handshake ─▶ Key
//!   (measured)  (servers)   challenge · evidence · resource
//!                            http: TLS   TPM, TEE
//! ```

#[cfg(feature = "native")]
mod ask;
pub mod certificate;
pub mod error;
pub mod evidence;
pub mod fault;
#[cfg(any(feature = "native", test))]
mod handshake;
pub mod http;
#[cfg(feature = "native")]
mod https;
#[cfg(any(feature = "native", test))]
mod in_turn;
pub mod key_document;
pub mod protocol;
#[cfg(feature = "native")]
mod resolver;
pub mod server;
pub mod server_url;
pub mod settings;
#[cfg(feature = "native")]
mod tls;

use serde::Serialize;

#[cfg(feature = "native")]
pub use ask::{fetch_key, rehearse};
pub use error::AttestError;
pub use evidence::{Attester, Evidence, EvidenceError};
pub use fault::Fault;
pub use key_document::{Delivered, KeyDocumentError};
pub use protocol::{ReportData, ResourcePath};
pub use settings::Settings;

use crate::base::secret::Secret;

/// A key from a key broker, with its origin.
pub struct Key {
    /// The content of the resource.
    pub secret: Secret,
    /// Who released it, and for what.
    pub provenance: Provenance,
}

/// Who accepted our evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The key broker's address.
    pub server: String,
    /// What identified it.
    pub pin: String,
    /// The protocol version.
    pub protocol: &'static str,
    /// The platform whose evidence it accepted.
    pub tee: &'static str,
    /// The resource that it released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}
