//! The fallback: volumes that the TPM did not open come in; the one goes out whose key a configured key broker releases to
//! this machine's evidence, and that is what was enrolled.
//!
//! Trusted: the servers that the configuration pins. Which volumes there are, their UUIDs and tokens are the host's words:
//! they can choose among the paths below the configured one, and what is delivered has to open and bind the volume.

use std::time::Instant;

use super::fallback::Scope;
use super::notes::{of_volume, refuse_volume};
use super::prove::{Proven, Undecided};
use super::search::Trial;
use super::{Host, SelectError};
use crate::attest::{AttestError, Attester, Delivered, Key, ResourcePath, Settings};
use crate::base::error::{Class, Error, Failure};
use crate::base::source::Source;
use crate::base::warning::Warning;
use crate::format::luks::Snapshot;
use crate::format::token::TokenError;
use crate::format::token::key_broker::KbsToken;
use crate::network::Network;
use crate::prove;
use crate::prove::Verified;
use crate::report::{Report, TokenReport};
use crate::tpm::Tpm;

/// The connection to the world outside, once it is needed: one deadline for all of it.
pub(super) struct Outside {
    until: Instant,
    /// Wanted for as long as this lives.
    _network: Network,
}

/// Whether a volume names a key broker.
pub(super) fn is_attestable(snapshot: &Snapshot) -> bool {
    tokens(snapshot).next().is_some()
}

impl Host<'_> {
    /// The one of `undecided` that a key broker opens, if there is one. A second one is refused, as with the TPM.
    pub(super) fn attest(
        &self,
        undecided: Vec<Undecided>,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Option<Proven>, Error> {
        let mut proven: Option<Proven> = None;
        let mut ours = None;
        for Undecided { candidate, snapshot, volume, error } in undecided {
            if trial.hopeless || trial.unanswered {
                refuse_volume(volume, error, trial, report);
                continue;
            }
            report.volume = Some(volume);
            let before = report.refused_tokens.len();
            let outcome = self.open_by_broker(&snapshot, &candidate.file, trial, report);
            let volume = report.volume.take().unwrap_or_default();
            of_volume(&volume, before, report);
            match outcome {
                Ok(verified) => {
                    if let Some(first) = &proven {
                        return Err(SelectError::Several(first.candidate.path.clone(), candidate.path).into());
                    }
                    if trial.chip.is_some() {
                        report.warn(Warning::new(
                            "unlocked-by-attestation",
                            format!("The TPM did not give the key, a key broker did: {}", error.chain()),
                        ));
                    }
                    proven = Some(Proven { candidate, snapshot, verified });
                    ours = Some(volume);
                }
                Err(error) => refuse_volume(volume, error, trial, report),
            }
        }
        report.volume = ours;
        Ok(proven)
    }

    /// Opens a volume by the first of its tokens for which the key is released and fits.
    fn open_by_broker<S: Source + ?Sized>(
        &self,
        snapshot: &Snapshot,
        source: &S,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Verified, Error> {
        let settings = self.config.kbs.as_ref().ok_or(AttestError::NotConfigured)?;
        let mut refusal = None;
        for (position, (id, token)) in tokens(snapshot).enumerate() {
            let admitted = if position < KEYS_OF_A_VOLUME {
                token.map_err(Error::from)
            } else {
                Err(BrokerError::TooManyKeys.into())
            };
            let opened = admitted.and_then(|token| {
                self.open_by_token(settings, &token, (snapshot, source), trial, report).map(|v| (token, v))
            });
            match opened {
                Ok((token, verified)) => {
                    let volume = report.volume.get_or_insert_default();
                    (volume.token, volume.keyslot) = (Some(token.id), Some(token.keyslot));
                    volume.proven(&verified.proven);
                    for warning in &verified.warnings {
                        report.warn(warning.clone());
                    }
                    return Ok(verified);
                }
                Err(error) => {
                    report.refused_tokens.push(TokenReport::new(id, error.slug(), error.chain()));
                    refusal.get_or_insert(error);
                    if trial.unanswered {
                        break;
                    }
                }
            }
        }
        Err(refusal.unwrap_or_else(|| BrokerError::NoToken.into()))
    }

    fn open_by_token<S: Source + ?Sized>(
        &self,
        settings: &Settings,
        token: &KbsToken,
        (snapshot, source): (&Snapshot, &S),
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Verified, Error> {
        let path = match &token.path {
            None => settings.resource.path(snapshot.uuid()),
            Some(path) => settings.resource.accept(path),
        };
        let path = path.ok_or(BrokerError::Path)?;
        // Before a key is asked for that nothing could be opened with.
        snapshot.keyslot(token.keyslot)?;
        trial.keys_left = trial.keys_left.checked_sub(1).ok_or(BrokerError::TooManyKeys)?;
        let key = self.fetch(settings, &path, trial, report)?;
        report.volume.get_or_insert_default().attestation = Some((&key.provenance).into());
        report.stage("verify", |_| {
            let delivered = Delivered::parse(&key.secret)?;
            let area = snapshot.read_area(source, token.keyslot)?;
            Ok(prove::verify_delivered(token, &delivered, snapshot, &area, self.config.proof_rules())?)
        })
    }

    /// The key at `path`; brings up the network at the first call of a boot.
    fn fetch(
        &self,
        settings: &Settings,
        path: &ResourcePath,
        trial: &mut Trial<'_>,
        report: &mut Report,
    ) -> Result<Key, Error> {
        let tpm: Option<&mut dyn Tpm> = match &mut trial.chip {
            Some(chip) => Some(&mut *chip.tpm),
            None => None,
        };
        // There always is one: no configuration waives the TPM and wants its evidence.
        let mut attester = Attester::configured(settings, tpm).ok_or(AttestError::NotConfigured)?;
        let until = match &trial.outside {
            Some(outside) => outside.until,
            None => {
                let (until, servers) = (settings.until(), settings.servers.as_slice());
                let network = report.stage("network", |_| {
                    Network::bring_up(self.root, servers, until, || prepare(&mut attester))
                });
                trial.unanswered |= network.is_err();
                trial.outside = Some(Outside { until, _network: network? });
                until
            }
        };
        log::info!("Asking the key broker for {path}");
        let fetched =
            report.stage("attest", |_| crate::attest::fetch_key(settings, &mut attester, path, until));
        fetched.map_err(|error| {
            trial.unanswered |= Scope::of(&error) == Scope::Boot;
            error.into()
        })
    }
}

/// What takes the TPM long and needs no server is done while the network comes up. The handshake does it where this fails, and
/// reports why it cannot be done.
fn prepare(attester: &mut Attester<'_>) {
    if let Err(error) = attester.prepare() {
        log::warn!("{} [{}]", crate::base::error::chain(&error), error.slug());
    }
}

/// The tokens for key brokers, in ascending order.
fn tokens(snapshot: &Snapshot) -> impl Iterator<Item = (u32, Result<KbsToken, TokenError>)> {
    let parsed = snapshot.tokens().iter().map(|(id, value)| (*id, KbsToken::parse(*id, value)));
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
    /// The token is the host's to write: it chooses no other repository or type.
    #[error("The token names a resource that is not where the configuration's lie")]
    Path,
    /// Each key costs a handshake.
    #[error("Key not asked for: a boot does not ask for as many keys as all volumes name")]
    TooManyKeys,
}

impl Failure for BrokerError {
    fn slug(&self) -> &'static str {
        match self {
            Self::NoToken => "kbs-token-none",
            Self::Waived => "tpm-waived",
            Self::Path => "kbs-path-refused",
            Self::TooManyKeys => "kbs-keys-too-many",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::NoToken | Self::Path | Self::TooManyKeys => Class::Data,
            Self::Waived => Class::Config,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::NoToken => "Enrol the volume: cvm-unlock enroll --kbs=FILE",
            Self::Waived => "",
            Self::Path => "kbs.resource of the configuration names repository and type",
            Self::TooManyKeys => "Detach the disks that are not this machine's",
        }
    }
}

/// Tokens of one volume that are followed. Ours: the present key and the next one, while it is being changed.
const KEYS_OF_A_VOLUME: usize = 2;
/// Keys that one boot asks for, over all volumes: each costs a quote and three round trips. Ours: some strangers' volumes do not
/// keep ours from being asked for.
pub(super) const KEYS_LIMIT: usize = 8;
