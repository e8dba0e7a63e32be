//! The messages of the KBS attestation protocol. Pure. Answers are untrusted, even from a server with the
//! pinned certificate.
//!
//! Sources: `kbs/docs/kbs_attestation_protocol.md` of Trustee, RFC 7516 (JWE), RFC 7518 (its algorithms), RFC
//! 7517 (JWK), RFC 8785 (canonical JSON).

pub mod canonical;
pub mod challenge;
pub mod envelope;
mod error;
pub mod messages;
mod object;
pub mod refusal;
pub mod report_data;
pub mod resource;
pub mod session;
pub mod tee;
pub mod tee_key;
pub mod version;

pub use challenge::Challenge;
pub use envelope::Envelope;
pub use error::ProtocolError;
pub use refusal::{Kind, ServerRefusal};
pub use report_data::ReportData;
pub use resource::{ResourcePath, ResourceTemplate};
pub use session::SessionCookie;
pub use tee::Tee;
pub use tee_key::{PublicJwk, TeeKey};
pub use version::Version;

/// The prefix of every path (Trustee, `kbs/docs/kbs.yaml`).
pub const PREFIX: &str = "/kbs/v0";

/// The body of a recorded message.
#[cfg(test)]
pub(crate) fn body(recording: &str) -> &str {
    recording.split_once("\n\n").or_else(|| recording.split_once("\r\n\r\n")).unwrap().1
}
