//! Gets the keys for one volume's tokens from the configured key brokers.
//!
//! The pinned key brokers are trusted. The volumes with their UUIDs and tokens are untrusted: they can only
//! choose among paths below the configured one, and a delivered key must open and bind the volume.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use super::budget::Budget;
use super::fallback::Scope;
use super::given::{Given, Unproven};
use super::tpm_keys::OpenTpm;
use crate::attest::{AttestError, Attester, Delivered, Key, ResourcePath, Settings};
use crate::base::error::{Error, Failure, failures};
use crate::format::luks::Snapshot;
use crate::format::token::TokenError;
use crate::format::token::key_broker::KeyBrokerToken;
use crate::network::{Asked, Network};
use crate::report::Account;
use crate::tpm::Tpm;

/// Access to the key brokers during a boot.
pub(super) struct Brokers {
    connection: Option<Connection>,
    /// No key broker will release any further key. The TPM may still open a disk that appears later.
    lost: bool,
}

/// The network, once it was needed, with one deadline for all its uses.
struct Connection {
    until: Instant,
    /// Keeps the request for the network alive.
    _network: Network,
}

impl Brokers {
    pub(super) const fn unasked() -> Self {
        Self { connection: None, lost: false }
    }

    pub(super) const fn are_lost(&self) -> bool {
        self.lost
    }
}

/// Whether a volume has a token for a key broker.
pub(super) fn is_attestable(snapshot: &Snapshot) -> bool {
    tokens(snapshot).next().is_some()
}

/// The keys for one volume.
pub(super) struct BrokerKeys<'t, 'a, 's> {
    pub(super) settings: &'t Settings,
    /// `/`
    pub(super) root: &'t Path,
    pub(super) tpm: Option<&'t mut OpenTpm<'a>>,
    pub(super) brokers: &'t mut Brokers,
    pub(super) budget: &'t mut Budget,
    pub(super) snapshot: &'s Snapshot,
    /// The tokens not tried yet.
    pub(super) tokens: VecDeque<(u32, Result<KeyBrokerToken, Error>)>,
}

/// The tokens to try, and an error for each one beyond the limit.
pub(super) fn admitted(snapshot: &Snapshot) -> VecDeque<(u32, Result<KeyBrokerToken, Error>)> {
    let admit = |(position, (id, token)): (usize, (u32, Result<KeyBrokerToken, TokenError>))| {
        let admitted = if position < KEYS_OF_A_VOLUME {
            token.map_err(Error::from)
        } else {
            Err(BrokerError::TooManyKeys.into())
        };
        (id, admitted)
    };
    tokens(snapshot).enumerate().map(admit).collect()
}

impl BrokerKeys<'_, '_, '_> {
    /// The next key, or a token without one and the reason.
    pub(super) fn next(&mut self, account: &mut Account) -> Option<Result<Given, (u32, Unproven)>> {
        if self.brokers.lost {
            return None;
        }
        let (id, token) = self.tokens.pop_front()?;
        let given = token.and_then(|token| {
            let delivered = self.deliver(&token, account)?;
            Ok(Given::Delivered(Box::new((token, delivered))))
        });
        Some(given.map_err(|error| (id, Unproven::finally(error))))
    }

    /// Why no key opened the volume.
    pub(super) fn into_refusal(self, refusal: Option<Unproven>) -> Unproven {
        refusal.unwrap_or_else(|| BrokerError::NoToken.into())
    }

    fn deliver(&mut self, token: &KeyBrokerToken, account: &mut Account) -> Result<Delivered, Error> {
        let path = match &token.path {
            None => self.settings.resource.path(self.snapshot.uuid()),
            Some(path) => self.settings.resource.accept(path),
        };
        let path = path.ok_or(BrokerError::Path)?;
        // Checked before a key is requested that could open nothing.
        self.snapshot.keyslot(token.keyslot)?;
        if !self.budget.ask_for_a_key() {
            return Err(BrokerError::TooManyKeys.into());
        }
        let key = self.fetch(&path, account)?;
        account.volume.attestation = Some((&key.provenance).into());
        Ok(Delivered::parse(&key.secret)?)
    }

    /// The key at `path`. The first call of a boot brings up the network.
    fn fetch(&mut self, path: &ResourcePath, account: &mut Account) -> Result<Key, Error> {
        let settings = self.settings;
        let tpm: Option<&mut dyn Tpm> = match &mut self.tpm {
            Some(open) => Some(&mut *open.tpm),
            None => None,
        };
        // Always present: a configuration that waives the TPM cannot require its evidence.
        let mut attester = Attester::configured(settings, tpm).ok_or(AttestError::NotConfigured)?;
        let until = match &self.brokers.connection {
            Some(connection) => connection.until,
            None => {
                let until = settings.until();
                let connect = || connect(self.root, settings, &mut attester, until);
                let network = account.stages.time("network", connect);
                self.brokers.lost |= network.is_err();
                self.brokers.connection = Some(Connection { until, _network: network? });
                until
            }
        };
        log::info!("Asking the key broker for {path}");
        let fetch = || crate::attest::fetch_key(settings, &mut attester, path, until);
        account.stages.time("attest", fetch).map_err(|error| {
            self.brokers.lost |= Scope::of(&error) == Scope::Boot;
            error.into()
        })
    }
}

/// Requests the network, and prepares the evidence while it comes up.
fn connect(
    root: &Path,
    settings: &Settings,
    attester: &mut Attester<'_>,
    until: Instant,
) -> Result<Network, Error> {
    let asked = Asked::for_one_of(root, &settings.servers.endpoints())?;
    if !asked.is_ready() {
        prepare(attester);
    }
    Ok(asked.wait(until)?)
}

/// Does the TPM's slow work, which needs no key broker, while the network comes up. If it fails, the
/// handshake repeats it and reports the error.
fn prepare(attester: &mut Attester<'_>) {
    if let Err(error) = attester.prepare() {
        log::warn!("{} [{}]", crate::base::error::chain(&error), error.slug());
    }
}

/// The tokens for key brokers, in ascending order.
fn tokens(snapshot: &Snapshot) -> impl Iterator<Item = (u32, Result<KeyBrokerToken, TokenError>)> {
    let parsed = snapshot.tokens().iter().map(|(id, value)| (*id, KeyBrokerToken::parse(*id, value)));
    parsed.filter(|(_, token)| !matches!(token, Err(TokenError::OtherType)))
}

/// Why a key broker is not asked about a volume.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No token for a key broker.
    #[error("The volume has no token for a key broker")]
    NoToken,
    /// The configuration waives the TPM, so nothing was unsealed.
    #[error("The configuration waives the TPM")]
    Waived,
    /// The path leads outside the configured repository and type; tokens are untrusted.
    #[error("The token names a resource that is not where the configuration's lie")]
    Path,
    /// More tokens than the limit. Each key costs a handshake.
    #[error("Key not asked for: a boot does not ask for as many keys as all volumes name")]
    TooManyKeys,
}

failures! { BrokerError:
    Self::NoToken => "kbs-token-none", Data, "Enrol the volume: cvm-unlock enroll --kbs=FILE";
    Self::Waived => "tpm-waived", Config, "";
    Self::Path => "kbs-path-refused", Data, "kbs.resource of the configuration names repository and type";
    Self::TooManyKeys => "kbs-keys-too-many", Data, "Detach the disks that are not this machine's";
}

/// Tokens to try per volume. Our own limit: the present key and the next one, while it is being replaced.
const KEYS_OF_A_VOLUME: usize = 2;
