//! Keys from the configured key brokers: what they release to this machine's evidence, for the tokens of one volume.
//!
//! The servers that the configuration pins are trusted. Which volumes there are, their UUIDs and tokens are not: they can
//! choose among the paths below the configured one, and what is delivered has to open and bind the volume.

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

/// The way to the key brokers of a boot.
pub(super) struct Brokers {
    connection: Option<Connection>,
    /// None of them will give a key any more. The TPM may still open a disk that comes later.
    lost: bool,
}

/// The network, once it was needed: one deadline for all that uses it.
struct Connection {
    until: Instant,
    /// Wanted for as long as this lives.
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

/// Whether a volume names a key broker.
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
    /// What has not been asked for.
    pub(super) tokens: VecDeque<(u32, Result<KeyBrokerToken, Error>)>,
}

/// The tokens that are followed, and what is said about each further one.
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
    /// The next key, or a token that gives none, and why.
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
        // Before a key is asked for that nothing could be opened with.
        self.snapshot.keyslot(token.keyslot)?;
        if !self.budget.ask_for_a_key() {
            return Err(BrokerError::TooManyKeys.into());
        }
        let key = self.fetch(&path, account)?;
        account.volume.attestation = Some((&key.provenance).into());
        Ok(Delivered::parse(&key.secret)?)
    }

    /// The key at `path`; brings up the network at the first call of a boot.
    fn fetch(&mut self, path: &ResourcePath, account: &mut Account) -> Result<Key, Error> {
        let settings = self.settings;
        let tpm: Option<&mut dyn Tpm> = match &mut self.tpm {
            Some(open) => Some(&mut *open.tpm),
            None => None,
        };
        // There always is one: no configuration waives the TPM and wants its evidence.
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

/// Asks for the network, and prepares the evidence while it comes up.
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

/// What takes the TPM long and needs no server is done while the network comes up. The handshake does it where this fails, and
/// reports why it cannot be done.
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
    /// Nothing to open by a key broker's key.
    #[error("The volume has no token for a key broker")]
    NoToken,
    /// The configuration has no TPM, so nothing was unsealed.
    #[error("The configuration waives the TPM")]
    Waived,
    /// The token is untrusted: it chooses no other repository or type.
    #[error("The token names a resource that is not where the configuration's lie")]
    Path,
    /// Each key costs a handshake.
    #[error("Key not asked for: a boot does not ask for as many keys as all volumes name")]
    TooManyKeys,
}

failures! { BrokerError:
    Self::NoToken => "kbs-token-none", Data, "Enrol the volume: cvm-unlock enroll --kbs=FILE";
    Self::Waived => "tpm-waived", Config, "";
    Self::Path => "kbs-path-refused", Data, "kbs.resource of the configuration names repository and type";
    Self::TooManyKeys => "kbs-keys-too-many", Data, "Detach the disks that are not this machine's";
}

/// Tokens of one volume that are followed. Ours: the present key and the next one, while it is being changed.
const KEYS_OF_A_VOLUME: usize = 2;
