//! Remote attestation: when the TPM will not unseal, a key broker decides. The measured configuration and this machine's
//! evidence come in, a key with its provenance goes out.
//!
//! Trust: the server is who the configuration pins, and nobody else vouches for it. What it sends is parsed as hostile. What
//! we send proves the machine's state to the server; that the server's policy asks for enough is the owner's to arrange.
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

/// A key from a key broker, and where it is from.
pub struct Key {
    /// What the resource contains.
    pub secret: Secret,
    /// Who gave it, and for what.
    pub provenance: Provenance,
}

/// Who accepted our evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The server's address.
    pub server: String,
    /// What it was recognised by.
    pub pin: String,
    /// The protocol's version.
    pub protocol: &'static str,
    /// The platform whose evidence it accepted.
    pub tee: &'static str,
    /// The resource that it released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}
