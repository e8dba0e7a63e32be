//! The pipeline: the stages in order. Each stage's value goes into the next; what it learned goes into the report.

mod attest;
mod dry_run;
mod fallback;
mod notes;
mod prove;
mod search;
mod select;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::activate;
use crate::activate::NAME;
use crate::base::error::{Error, Failure};
use crate::base::pcr::PcrValues;
use crate::base::source::Source;
use crate::base::warning::Warning;
use crate::config::Config;
use crate::discover::uevent;
use crate::discover::uevent::Listener;
use crate::discover::{Candidate, Discovery};
use crate::fence;
use crate::fence::measurement_log::MeasurementLog;
use crate::fence::{Fenced, Unfenced};
use crate::format::luks::Snapshot;
use crate::format::pcr_signature::Signatures;
use crate::format::token::systemd_tpm2::{Kind, Token};
use crate::policy;
use crate::policy::files;
use crate::policy::{Rules, State};
use crate::report::{FenceReport, Outcome, Report};
use crate::tpm::esapi::EsapiTpm;
use crate::tpm::readings::Readings;
use crate::tpm::{Device, TpmError};
pub use attest::BrokerError;
use notes::record;
use prove::Proven;
use search::{Chip, Trial};
pub use select::SelectError;

/// Where we run: the directory that stands for `/`, the configuration, the TPM.
#[derive(Debug)]
pub struct Host<'a> {
    /// `/`, or a fake one in tests.
    pub root: &'a Path,
    /// The measured configuration.
    pub config: &'a Config,
    /// Which TPM.
    pub tpm: &'a Device,
    /// A file of signed policies, instead of those below `root`.
    pub signature: Option<&'a Path>,
}

/// A candidate and its header, or why it has none that we accept.
type Headed = (Candidate, Result<Snapshot, Error>);

impl Host<'_> {
    /// Finds, proves, fences and maps the root volume. A failure is fenced, too.
    ///
    /// # Errors
    /// Every stage's.
    pub fn unlock(&self, report: &mut Report) -> Result<(), Error> {
        let mut tpm = None;
        let outcome = self.run(report, &mut tpm);
        if outcome.is_err() && self.config.tpm.waiver().is_none() {
            self.fence_failure(tpm, report);
        }
        outcome
    }

    fn run(&self, report: &mut Report, tpm: &mut Option<EsapiTpm>) -> Result<(), Error> {
        self.lock_memory(report);
        let listener = Listener::open().map_err(crate::discover::DiscoverError::from)?;
        let discovery = Discovery::open(self.root.to_owned(), &listener);
        let start = Instant::now();
        let found =
            report.stage("discover", |_| discovery.find(self.config.device_timeout_seconds.duration()))?;
        let round = self.round(found, report);
        let (proven, fenced) = match self.config.tpm.waiver() {
            None => {
                let tpm = tpm.insert(report.stage("tpm", |_| self.open_tpm(&listener))?);
                let tokens = round.tokens();
                let (unfenced, readings) = Unfenced::check_and_read(tpm, &policy::at_entry(&tokens))?;
                let mut state = self.state(&tokens, readings, report)?;
                record(&tokens, &mut state, tpm, report);
                let trial = Trial::new(Some(Chip { tpm, unfenced: &unfenced, state }));
                let proven = self.search(&discovery, start, round, trial, report)?;
                let fenced = self.raise_fence(unfenced, tpm, &proven, report)?;
                (proven, fenced)
            }
            Some(waiver) => {
                let proven = self.search(&discovery, start, round, Trial::new(None), report)?;
                report.warn(Warning::new(
                    "fence-absent",
                    "The configuration waives the TPM: no PCR shows that the key was given in this boot",
                ));
                (proven, Fenced::waived(waiver))
            }
        };
        let mapped = report.stage("activate", |_| {
            activate::activate(&fenced, &proven.verified, &proven.snapshot, &proven.candidate, self.root)
        })?;
        let published = report.stage("publish", |_| activate::publish(&mapped, self.root))?;
        if let Some(volume) = &mut report.volume {
            volume.mapping = Some(published.device);
        }
        report.outcome = Outcome::Unlocked;
        Ok(())
    }

    fn raise_fence(
        &self,
        unfenced: Unfenced,
        tpm: &mut EsapiTpm,
        proven: &Proven,
        report: &mut Report,
    ) -> Result<Fenced, Error> {
        let uuid = proven.snapshot.uuid();
        let log = MeasurementLog::new(self.root);
        let fenced =
            report.stage("fence", |_| unfenced.raise(tpm, &proven.verified.key, NAME, uuid, &log))?;
        if let Some(error) = fenced.unlogged() {
            report.warn(Warning::new("measurement-log-failed", crate::base::error::chain(error)));
        }
        report.fence = Some(FenceReport {
            pcr: crate::base::pcr::Pcr::FENCE.number(),
            banks: fenced.digests().iter().map(|(bank, _)| bank.to_string()).collect(),
            measured: "volume key".to_owned(),
        });
        Ok(fenced)
    }

    fn read_headers(&self, candidates: Vec<Candidate>, report: &mut Report) -> Vec<Headed> {
        let read = |candidate: Candidate| {
            let (size, sector) = (candidate.size, candidate.sector.bytes());
            let snapshot = self.read_header(&candidate.file, size, sector, report);
            (candidate, snapshot)
        };
        candidates.into_iter().map(read).collect()
    }

    fn read_header<S: Source + ?Sized>(
        &self,
        source: &S,
        length: u64,
        sector: u32,
        report: &mut Report,
    ) -> Result<Snapshot, Error> {
        let snapshot = report
            .stage("header", |_| Snapshot::read(source, length, sector, &self.config.allow_luks_flags))?;
        if let Some(slug) = snapshot.condition().slug() {
            report.warn(Warning::new(slug, "One of the header's two copies is not used"));
        }
        Ok(snapshot)
    }

    fn rules(&self) -> Rules {
        Rules {
            allow_unbound: self.config.policy.allow_unbound,
            require_fence: self.config.policy.require_fence,
        }
    }

    /// What is known when tokens are judged. Signature files are read only if a token asks for one.
    fn state(&self, tokens: &[Token], readings: Readings, report: &mut Report) -> Result<State, Error> {
        let active = readings.iter().map(PcrValues::bank).collect();
        Ok(State { active, readings, signatures: self.signatures(tokens, report)? })
    }

    fn signatures(&self, tokens: &[Token], report: &mut Report) -> Result<Signatures, Error> {
        if !tokens.iter().any(|token| token.kind() == Kind::Signed) {
            return Ok(Signatures::default());
        }
        let (signatures, unusable) = files::load(self.root, self.signature)?;
        for error in unusable {
            report.warn(Warning::new(error.slug(), crate::base::error::chain(&error)));
        }
        Ok(signatures)
    }

    /// The TPM, as soon as its device is there: its driver may be a module that udev is loading at this moment.
    fn open_tpm(&self, listener: &Listener) -> Result<EsapiTpm, TpmError> {
        let nodes = self.tpm.nodes();
        if !nodes.is_empty() {
            // A deadline that passes is no error here: opening says what is missing.
            let _appeared = uevent::wait_until(listener, TPM_TIMEOUT, || {
                Ok::<_, uevent::WaitError>(nodes.iter().any(|node| node.exists()).then_some(()))
            });
        }
        EsapiTpm::open(self.tpm)
    }

    fn lock_memory(&self, report: &mut Report) {
        if let Err(error) = crate::sys::memory::lock() {
            report.warn(Warning::new(error.slug(), crate::base::error::chain(&error)));
        }
    }

    fn fence_failure(&self, tpm: Option<EsapiTpm>, report: &mut Report) {
        let log = MeasurementLog::new(self.root);
        let open = || EsapiTpm::open(self.tpm).map_err(Error::from);
        let raise = |mut tpm| fence::raise_for_failure(&mut tpm, &log).map_err(Error::from);
        // A connection that broke takes no command any more; another one may.
        let raised = tpm.map_or_else(open, Ok).and_then(raise).or_else(|_| open().and_then(raise));
        match raised {
            Ok(logged) => {
                report.fence = Some(FenceReport {
                    pcr: crate::base::pcr::Pcr::FENCE.number(),
                    banks: Vec::new(),
                    measured: "failure".to_owned(),
                });
                if let Some(error) = logged {
                    report.warn(Warning::new("measurement-log-failed", crate::base::error::chain(&error)));
                }
            }
            Err(error) => report.warn(Warning::new("failure-not-fenced", error.to_string())),
        }
    }
}

/// Sees to it that PCR 15 is fenced after a failure that happened elsewhere: a process that was killed, a root that did
/// not mount.
///
/// # Errors
/// The TPM's.
pub fn fence_failure(root: &Path, device: &Device) -> Result<(), Error> {
    let mut tpm = EsapiTpm::open(device)?;
    if let Some(error) = fence::ensure_for_failure(&mut tpm, &MeasurementLog::new(root))? {
        log::warn!("{}", crate::base::error::chain(&error));
    }
    Ok(())
}

/// How long to wait for the TPM's device node.
const TPM_TIMEOUT: Duration = Duration::from_secs(10);
