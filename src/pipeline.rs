//! The pipeline: the stages in order. Each stage's value goes into the next; what it learned goes into the report.

use std::path::Path;
use std::time::Duration;

use crate::activate::{self, NAME};
use crate::config::Config;
use crate::discover::uevent::{self, Listener};
use crate::discover::{Candidate, Candidates, Discovery};
use crate::error::{Class, Error, Failure};
use crate::fence::measurement_log::MeasurementLog;
use crate::fence::{self, Unfenced};
use crate::luks::Snapshot;
use crate::policy::Rules;
use crate::report::{FenceReport, Outcome, Report, TokenReport, VolumeReport, Warning};
use crate::source::Source;
use crate::tpm::esapi::EsapiTpm;
use crate::tpm::{Device, Tpm, TpmError};
use crate::unseal::{Tokens, Unsealed};
use crate::verify::{self, Verified};

/// Where we run: the directory that stands for `/`, the configuration, the TPM.
#[derive(Debug)]
pub struct Host<'a> {
    /// `/`, or a fake one in tests.
    pub root: &'a Path,
    /// The measured configuration.
    pub config: &'a Config,
    /// Which TPM.
    pub tpm: &'a Device,
}

/// A volume that has proved itself as far as the configuration asks, and may be mapped once PCR 15 is fenced.
struct Proven {
    candidate: Candidate,
    snapshot: Snapshot,
    verified: Verified,
}

impl Host<'_> {
    /// Finds, proves, fences and maps the root volume. A failure is fenced, too.
    ///
    /// # Errors
    /// Every stage's.
    pub fn unlock(&self, report: &mut Report) -> Result<(), Error> {
        let mut tpm = None;
        let outcome = self.run(report, &mut tpm);
        if outcome.is_err() {
            self.fence_failure(tpm, report);
        }
        outcome
    }

    fn run(&self, report: &mut Report, tpm: &mut Option<EsapiTpm>) -> Result<(), Error> {
        self.lock_memory(report);
        let listener = Listener::open().map_err(crate::discover::DiscoverError::from)?;
        let discovery = Discovery::open(self.root.to_owned(), &listener);
        let found =
            report.stage("discover", |_| discovery.find(self.config.device_timeout_seconds.duration()))?;
        note(&found, report);
        let tpm = tpm.insert(report.stage("tpm", |_| self.open_tpm(&listener))?);
        let unfenced = Unfenced::check(tpm)?;
        let proven = self.prove_one(found.candidates, tpm, &unfenced, report)?;

        let uuid = proven.snapshot.uuid();
        let log = MeasurementLog::new(self.root);
        let fenced =
            report.stage("fence", |_| unfenced.raise(tpm, &proven.verified.key, NAME, uuid, &log))?;
        if let Some(error) = fenced.unlogged() {
            report.warn(Warning::new("measurement-log-failed", crate::error::chain(error)));
        }
        report.fence = Some(FenceReport {
            pcr: crate::pcr::Pcr::FENCE.number(),
            banks: fenced.digests().iter().map(|(bank, _)| bank.to_string()).collect(),
            measured: "volume key".to_owned(),
        });
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

    /// Takes a volume as far as the proof, and extends, maps and writes nothing. `volume` is a named one (its bytes,
    /// length and logical sector size in bytes), else the root volume is found as a boot would.
    ///
    /// # Errors
    /// Those of the stages up to verify.
    pub fn dry_run(&self, volume: Option<(&dyn Source, u64, u32)>, report: &mut Report) -> Result<(), Error> {
        self.lock_memory(report);
        let mut tpm = EsapiTpm::open(self.tpm)?;
        let unfenced = Unfenced::check(&mut tpm)?;
        match volume {
            Some((source, length, sector)) => {
                self.prove(source, length, sector, &mut tpm, &unfenced, report)?;
            }
            None => {
                let discovery = Discovery::open(self.root.to_owned(), uevent::Stationary);
                let found = report.stage("discover", |_| discovery.find(Duration::ZERO))?;
                note(&found, report);
                self.prove_one(found.candidates, &mut tpm, &unfenced, report)?;
            }
        }
        report.outcome = Outcome::WouldUnlock;
        Ok(())
    }

    /// The one candidate that proves itself. A second one that does is refused: then nobody can say which is ours.
    fn prove_one(
        &self,
        candidates: Vec<Candidate>,
        tpm: &mut dyn Tpm,
        unfenced: &Unfenced,
        report: &mut Report,
    ) -> Result<Proven, Error> {
        let mut proven: Option<Proven> = None;
        let mut refused = None;
        for candidate in candidates {
            report.volume = Some(VolumeReport {
                device: candidate.path.display().to_string(),
                partition_uuid: Some(candidate.part_uuid.to_string()),
                ..VolumeReport::default()
            });
            match self.prove(&candidate.file, candidate.size, candidate.sector.bytes(), tpm, unfenced, report)
            {
                Ok((snapshot, verified)) => {
                    if let Some(first) = &proven {
                        return Err(SelectError::Several(first.candidate.path.clone(), candidate.path).into());
                    }
                    proven = Some(Proven { candidate, snapshot, verified });
                }
                // The first refusal is the one that explains; later candidates are noted in the log.
                Err(error) => {
                    log::warn!(
                        "{} is not our root volume: {error} [{}]",
                        candidate.path.display(),
                        error.slug()
                    );
                    refused = refused.or(Some(error));
                }
            }
        }
        match (proven, refused) {
            (Some(proven), _) => Ok(proven),
            (None, Some(error)) => Err(error),
            (None, None) => Err(SelectError::None.into()),
        }
    }

    fn prove<S: Source + ?Sized>(
        &self,
        source: &S,
        length: u64,
        sector: u32,
        tpm: &mut dyn Tpm,
        unfenced: &Unfenced,
        report: &mut Report,
    ) -> Result<(Snapshot, Verified), Error> {
        let snapshot = report
            .stage("header", |_| Snapshot::read(source, length, sector, &self.config.allow_luks_flags))?;
        if let Some(slug) = snapshot.condition().slug() {
            report.warn(Warning::new(slug, "One of the header's two copies is not used"));
        }
        report.volume.get_or_insert_default().luks_uuid = Some(snapshot.uuid().to_string());

        let rules = Rules {
            allow_unbound: self.config.policy.allow_unbound,
            require_fence: self.config.policy.require_fence,
        };
        let mut tokens = Tokens::new(snapshot.tokens());
        let mut refusal = None;
        while let Some(unsealed) = report.stage("unseal", |_| tokens.unseal(tpm, unfenced, &rules)) {
            let verified = report.stage("verify", |_| self.verify(&unsealed, &snapshot, source));
            let token = unsealed.token();
            match verified {
                Ok(verified) => {
                    let volume = report.volume.get_or_insert_default();
                    volume.token = Some(token.id);
                    volume.keyslot = Some(token.keyslot);
                    for warning in &verified.warnings {
                        report.warn(warning.clone());
                    }
                    return Ok((snapshot, verified));
                }
                Err(error) => {
                    report.refused_tokens.push(TokenReport::new(token.id, error.slug(), error.chain()));
                    refusal = refusal.or(Some(error));
                }
            }
        }
        for skipped in tokens.skipped() {
            let message = crate::error::chain(&skipped.reason);
            report.refused_tokens.push(TokenReport::new(skipped.token, skipped.reason.slug(), message));
        }
        Err(refusal.unwrap_or_else(|| tokens.into_error().into()))
    }

    fn verify<S: Source + ?Sized>(
        &self,
        unsealed: &Unsealed,
        snapshot: &Snapshot,
        source: &S,
    ) -> Result<Verified, Error> {
        let area = snapshot.read_area(source, unsealed.token().keyslot)?;
        Ok(verify::verify(unsealed, snapshot, &area, self.config)?)
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
            report.warn(Warning::new(error.slug(), crate::error::chain(&error)));
        }
    }

    fn fence_failure(&self, tpm: Option<EsapiTpm>, report: &mut Report) {
        let log = MeasurementLog::new(self.root);
        let raised = match tpm.map_or_else(|| EsapiTpm::open(self.tpm), Ok) {
            Ok(mut tpm) => fence::raise_for_failure(&mut tpm, &log).map_err(Error::from),
            Err(error) => Err(error.into()),
        };
        match raised {
            Ok(logged) => {
                report.fence = Some(FenceReport {
                    pcr: crate::pcr::Pcr::FENCE.number(),
                    banks: Vec::new(),
                    measured: "failure".to_owned(),
                });
                if let Some(error) = logged {
                    report.warn(Warning::new("measurement-log-failed", crate::error::chain(&error)));
                }
            }
            Err(error) => report.warn(Warning::new("failure-not-fenced", error.to_string())),
        }
    }
}

/// Fences PCR 15 after a failure that happened elsewhere: a process that was killed, a root that did not mount.
///
/// # Errors
/// The TPM's.
pub fn fence_failure(root: &Path, device: &Device) -> Result<(), Error> {
    let mut tpm = EsapiTpm::open(device)?;
    if let Some(error) = fence::raise_for_failure(&mut tpm, &MeasurementLog::new(root))? {
        log::warn!("{}", crate::error::chain(&error));
    }
    Ok(())
}

fn note(found: &Candidates, report: &mut Report) {
    for note in &found.notes {
        report.warn(Warning::new(note.slug(), note.to_string()));
    }
}

/// Why no single volume was chosen.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// Two volumes prove themselves.
    #[error("Both {} and {} prove to be the root volume", .0.display(), .1.display())]
    Several(std::path::PathBuf, std::path::PathBuf),
    /// No candidate.
    #[error("There is no candidate for the root volume")]
    None,
}

impl Failure for SelectError {
    fn slug(&self) -> &'static str {
        match self {
            Self::Several(..) => "root-ambiguous",
            Self::None => "root-not-found",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Several(..) => Class::Data,
            Self::None => Class::Unavailable,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Several(..) => "Detach the copy of the disk",
            Self::None => "",
        }
    }
}

/// How long to wait for the TPM's device node.
const TPM_TIMEOUT: Duration = Duration::from_secs(10);
