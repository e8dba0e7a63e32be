//! Implements [`Tpm`] on a real device through tpm2-tss's ESAPI, with as few commands as possible.
//!
//! Every verb flushes what it loaded before it returns, on every path. A process that is killed leaves its
//! objects in a raw device; they are flushed when the TPM runs out of room.
//!
//! Where copies of a secret exist: ESAPI decrypts the response inside its context (overwritten by the next
//! command, freed with the context) and copies it once to the C heap, which the library frees without wiping.
//! That is why the process locks its memory, dumps no core and exits soon. The copy that reaches us is wiped
//! on drop.

mod approval;
mod object;
mod pcr;
mod quote;
mod seal;
mod session;

use std::fs::OpenOptions;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use tss_esapi::constants::{CapabilityType, StartupType};
use tss_esapi::handles::{KeyHandle, ObjectHandle, TpmHandle};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::CapabilityData;
use tss_esapi::tcti_ldr::{DeviceConfig, ServerAddress, TctiNameConf, TpmSimulatorConfig};
use tss_esapi::{Context, Error};

use super::device::{Device, OpenFault, is_managed};
use super::retry::{History, NextTry};
use super::{Banks, Tpm, TpmError, Verb};
use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::base::secret::Secret;
use crate::format::tpm2::attestation_key::AttestationKey;
use crate::format::tpm2::blob::Sealed;
use crate::format::tpm2::parent::Parent;
use crate::format::tpm2::quote::Quote;
use crate::format::tpm2::rc::RcClass;
use crate::format::tpm2::srk::Srk;
use crate::format::tpm2::step::PolicyStep;

/// An open TPM.
pub struct EsapiTpm {
    context: Context,
    /// What the current verb loaded and has to flush.
    loaded: Vec<ObjectHandle>,
    /// The attestation key, while it is held.
    held: Option<(KeyHandle, AttestationKey)>,
    raw: bool,
    startable: bool,
}

impl EsapiTpm {
    /// Opens `device`. We send no command; the library's device TCTI probes the kernel with one
    /// `TPM2_GetRandom`.
    ///
    /// # Errors
    /// The device does not exist, another process holds it, or the operating system refuses.
    pub fn open(device: &Device) -> Result<Self, TpmError> {
        if let Device::Swtpm { host, port } = device {
            let host = match host.parse::<IpAddr>() {
                Ok(address) => ServerAddress::Ip(address),
                Err(_) => ServerAddress::Hostname(host.clone()),
            };
            return Self::connect(
                TctiNameConf::Swtpm(TpmSimulatorConfig::Tcp { host, port: *port }),
                true,
                true,
            );
        }
        let mut nodes = device.nodes().into_iter().peekable();
        loop {
            let Some(node) = nodes.next() else { return Err(no_node(device)) };
            match probe(&node) {
                Ok(()) => {
                    let config =
                        DeviceConfig::from_str(&node.to_string_lossy()).map_err(library("Naming the TPM"))?;
                    return Self::connect(TctiNameConf::Device(config), !is_managed(&node), false);
                }
                Err(TpmError::Busy { .. }) if nodes.peek().is_some() => {
                    log::info!("TPM {} is in use, taking the next", node.display());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn connect(tcti: TctiNameConf, raw: bool, startable: bool) -> Result<Self, TpmError> {
        let context = Context::new(tcti).map_err(|error| match error {
            Error::TssError(code) => TpmError::Transport { verb: Verb::Startup, rc: code.into() },
            Error::WrapperError(_) => library("Connecting to the TPM")(error),
        })?;
        Ok(Self { context, loaded: Vec::new(), held: None, raw, startable })
    }

    /// Sends one command, and repeats it where [`NextTry`] says so.
    fn call<T>(
        &mut self,
        verb: Verb,
        session: Option<AuthSession>,
        mut command: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let start = Instant::now();
        let mut history = History { raw: self.raw, startable: self.startable, ..History::default() };
        loop {
            let rc = match self.context.execute_with_session(session, &mut command) {
                Ok(answer) => return Ok(answer),
                Err(Error::TssError(code)) => u32::from(code),
                Err(error) => return Err(library("Talking to the TPM")(error)),
            };
            history.elapsed = start.elapsed();
            match NextTry::after(RcClass::of(rc), &history) {
                NextTry::Again(delay) => {
                    history.retries = history.retries.saturating_add(1);
                    std::thread::sleep(delay);
                }
                NextTry::FlushStrays => {
                    history.flushed = true;
                    self.flush_strays();
                }
                NextTry::Startup => {
                    history.started = true;
                    // If this fails, the repeated command returns the reason.
                    let _ = self.context.startup(StartupType::Clear);
                }
                NextTry::GiveUp => return Err(TpmError::from_rc(verb, rc)),
            }
        }
    }

    /// Runs a verb and flushes what it left loaded, whatever its outcome.
    fn cleanly<T>(&mut self, verb: impl FnOnce(&mut Self) -> Result<T, TpmError>) -> Result<T, TpmError> {
        let outcome = verb(self);
        for handle in std::mem::take(&mut self.loaded).into_iter().rev() {
            self.flush(handle);
        }
        outcome
    }

    fn flush(&mut self, handle: ObjectHandle) {
        if let Err(error) = self.call(Verb::FlushContext, None, |context| context.flush_context(handle)) {
            log::warn!("Object stays in the TPM: {error}");
        }
    }

    /// Flushes the sessions and objects that killed processes left in a device without a resource manager.
    fn flush_strays(&mut self) {
        let mut own = self.loaded.clone();
        own.extend(self.held.iter().map(|(handle, _)| ObjectHandle::from(*handle)));
        let ours: Option<Vec<TpmHandle>> = own.into_iter().map(|own| self.tpm_handle(own)).collect();
        // Running out of room is better than flushing our own objects.
        let Some(ours) = ours else { return };
        for range in STRAYS {
            let Ok((CapabilityData::Handles(handles), _)) =
                self.context.get_capability(CapabilityType::Handles, range, MANY)
            else {
                continue;
            };
            for handle in handles.into_inner().into_iter().filter(|handle| !ours.contains(handle)) {
                let flushed = self
                    .context
                    .execute_without_session(|context| context.tr_from_tpm_public(handle))
                    .and_then(|stray| self.context.flush_context(stray));
                // The library tries to close policy sessions, and fails after it flushed them.
                log::info!("Stray object in the TPM: {handle:?}, flushed: {flushed:?}");
            }
        }
    }

    /// The TPM's handle for one of the library's: a serialised object starts with it.
    fn tpm_handle(&mut self, handle: ObjectHandle) -> Option<TpmHandle> {
        let bytes = self.context.tr_serialize(handle).ok()?;
        let (first, _) = bytes.split_first_chunk()?;
        TpmHandle::try_from(u32::from_be_bytes(*first)).ok()
    }
}

impl Tpm for EsapiTpm {
    fn banks(&mut self) -> Result<Banks, TpmError> {
        self.allocated_banks()
    }

    fn read_pcrs(&mut self, selection: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError> {
        self.pcr_values(selection)
    }

    fn read_everywhere(&mut self, pcr: Pcr, also: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError> {
        self.pcr_everywhere(pcr, also)
    }

    fn extend(&mut self, pcr: Pcr, digests: &[(Bank, Vec<u8>)]) -> Result<(), TpmError> {
        self.extend_pcr(pcr, digests)
    }

    fn unseal(&mut self, sealed: &Sealed, parent: &Parent, steps: &[PolicyStep]) -> Result<Secret, TpmError> {
        self.cleanly(|tpm| {
            let tickets = tpm.tickets(steps)?;
            let (parent, object) = tpm.load(sealed, parent)?;
            tpm.unseal_by_policy(parent, object, steps, &tickets)
        })
    }

    fn seal(
        &mut self,
        secret: &Secret,
        policy: &[u8; 32],
        parent: Option<u32>,
    ) -> Result<(Sealed, Srk), TpmError> {
        self.cleanly(|tpm| tpm.seal_below(secret, policy, parent))
    }

    fn attestation_key(&mut self) -> Result<AttestationKey, TpmError> {
        self.cleanly(|tpm| tpm.attestation_key_pair().map(|(_, key)| key))
    }

    fn hold_attestation_key(&mut self) -> Result<(), TpmError> {
        self.cleanly(Self::keep_attestation_key)
    }

    fn release(&mut self) {
        if let Some((handle, _)) = self.held.take() {
            self.flush(handle.into());
        }
    }

    fn quote(&mut self, nonce: &[u8; 32], bank: Bank, mask: PcrMask) -> Result<Quote, TpmError> {
        self.cleanly(|tpm| tpm.quote_pcrs(nonce, bank, mask))
    }
}

/// Opens and closes the node, since the library's error does not say why it could not.
fn probe(node: &Path) -> Result<(), TpmError> {
    let device = node.display().to_string();
    match OpenOptions::new().read(true).write(true).open(node) {
        Ok(_) => Ok(()),
        Err(source) => Err(match OpenFault::of(&source) {
            OpenFault::Busy => TpmError::Busy { device, source },
            OpenFault::Absent => TpmError::Absent { device, source },
            OpenFault::Failed => TpmError::Open { device, source },
        }),
    }
}

fn no_node(device: &Device) -> TpmError {
    TpmError::Absent { device: device.to_string(), source: std::io::ErrorKind::NotFound.into() }
}

/// An error of the library itself, or of a conversion.
fn library(doing: &'static str) -> impl FnOnce(Error) -> TpmError {
    move |error| TpmError::Library { doing, what: error.to_string() }
}

/// `TPM_HT_LOADED_SESSION` (which lists policy sessions as well) and `TPM_HT_TRANSIENT`: first handles (TPM
/// 2.0 Part 2, 7.2).
const STRAYS: [u32; 2] = [0x0200_0000, 0x8000_0000];
/// More handles than a TPM can have loaded.
const MANY: u32 = 64;
