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

pub mod certificate;
pub mod error;
pub mod evidence;
mod handshake;
pub mod http;
#[cfg(feature = "native")]
mod https;
mod in_turn;
pub mod protocol;
pub mod server;
pub mod settings;
#[cfg(feature = "native")]
mod tls;

use std::time::Instant;

use serde::Serialize;

pub use error::{AttestError, Fault};
pub use evidence::{Attester, Evidence, EvidenceError};
pub use protocol::{ReportData, ResourcePath};
pub use settings::Settings;

use crate::secret::Secret;
use handshake::{Attested, Challenged};
use http::Http;
use in_turn::{Clock, Until, in_turn};
use protocol::Version;
use server::Server;

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

/// Gets the key at `path` from the first server that releases it.
///
/// # Errors
/// A denial, which is final; else the last fault before the deadline.
#[cfg(feature = "native")]
pub fn fetch_key(
    settings: &Settings,
    attester: &mut Attester<'_>,
    path: &ResourcePath,
) -> Result<Key, AttestError> {
    with_servers(settings, |server, http| {
        let attested = Challenged::ask(http, attester)?.attest(http, attester)?;
        let provenance = provenance(server, attester, attested.version, Some(path));
        let secret = attested.fetch(http, path)?;
        Ok(Key { secret, provenance })
    })
}

/// Has the evidence judged by the first server that answers, and fetches nothing.
///
/// # Errors
/// As [`fetch_key`].
#[cfg(feature = "native")]
pub fn rehearse(settings: &Settings, attester: &mut Attester<'_>) -> Result<Provenance, AttestError> {
    with_servers(settings, |server, http| {
        let Attested { version, .. } = Challenged::ask(http, attester)?.attest(http, attester)?;
        Ok(provenance(server, attester, version, None))
    })
}

#[cfg(feature = "native")]
fn with_servers<T>(
    settings: &Settings,
    mut ask: impl FnMut(&Server, &mut dyn Http) -> Result<T, Fault>,
) -> Result<T, AttestError> {
    let deadline = Instant::now() + settings.deadline_seconds.duration();
    let mut clock: Box<dyn Clock> = Box::new(Until(deadline));
    in_turn(settings.servers.as_slice(), &mut *clock, |server, share| {
        let mut https = https::Https::new(server, settings, Instant::now() + share)
            .map_err(|source| Fault::Http { step: error::Step::Challenge, source })?;
        ask(server, &mut https)
    })
}

#[cfg(feature = "native")]
fn provenance(
    server: &Server,
    attester: &Attester<'_>,
    version: Version,
    path: Option<&ResourcePath>,
) -> Provenance {
    Provenance {
        server: server.url.to_string(),
        pin: server.pin.to_string(),
        protocol: version.as_str(),
        tee: attester.tee().name(),
        resource: path.map(ToString::to_string),
    }
}
