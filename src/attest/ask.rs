//! Asks the configured key brokers for a key, or for a verdict on the evidence.

use std::time::Instant;

use super::error::AttestError;
use super::evidence::Attester;
use super::fault::{Exchange, Fault};
use super::handshake::{Attested, Challenged};
use super::http::Http;
use super::https::Https;
use super::in_turn::{Until, in_turn};
use super::protocol::{ResourcePath, Version};
use super::server::Server;
use super::settings::Settings;
use super::{Key, Provenance};

/// Gets the key at `path` from the first key broker that releases it, before `until`.
///
/// # Errors
/// A denial, which is final; otherwise the last fault before the deadline.
pub fn fetch_key(
    settings: &Settings,
    attester: &mut Attester<'_>,
    path: &ResourcePath,
    until: Instant,
) -> Result<Key, AttestError> {
    with_servers(settings, until, |server, http| {
        let attested = Challenged::ask(http, attester)?.attest(http, attester)?;
        let provenance = provenance(server, attester, attested.version, Some(path));
        let secret = attested.fetch(http, path)?;
        Ok(Key { secret, provenance })
    })
}

/// Has the first key broker that answers before `until` judge the evidence. Fetches no key.
///
/// # Errors
/// As [`fetch_key`].
pub fn rehearse(
    settings: &Settings,
    attester: &mut Attester<'_>,
    until: Instant,
) -> Result<Provenance, AttestError> {
    with_servers(settings, until, |server, http| {
        let Attested { version, .. } = Challenged::ask(http, attester)?.attest(http, attester)?;
        Ok(provenance(server, attester, version, None))
    })
}

fn with_servers<T>(
    settings: &Settings,
    until: Instant,
    mut ask: impl FnMut(&Server, &mut dyn Http) -> Result<T, Fault>,
) -> Result<T, AttestError> {
    let mut clock = Until(until);
    in_turn(settings.servers.as_slice(), &mut clock, |server, share| {
        let mut https = Https::new(server, settings, Instant::now() + share)
            .map_err(|source| Fault::Http { step: Exchange::Challenge, source })?;
        ask(server, &mut https)
    })
}

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
