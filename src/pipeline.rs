//! The pipeline: the stages in order. Each stage's value goes into the next; what it learned goes into the report.

use std::path::Path;
use std::time::Duration;

use crate::activate::{self, NAME};
use crate::config::Config;
use crate::discover::uevent::{self, Listener};
use crate::discover::{Candidate, Candidates, Discovery};
use crate::error::{Class, Error, Failure};
use crate::fence::measurement_log::MeasurementLog;
use crate::fence::{self, FenceError, Unfenced};
use crate::hex;
use crate::luks::Snapshot;
use crate::luks::token::{Kind, Token};
use crate::pcr::PcrValues;
use crate::policy::mismatch::Mismatch;
use crate::policy::signature::Signatures;
use crate::policy::{self, Rules, State};
use crate::report::{FenceReport, Outcome, PcrReport, Report, TokenReport, VolumeReport, Warning};
use crate::signature_files;
use crate::source::Source;
use crate::tpm::esapi::EsapiTpm;
use crate::tpm::readings::Readings;
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
    /// A file of signed policies, instead of those below `root`.
    pub signature: Option<&'a Path>,
}

/// A candidate and its header, or why it has none that we accept.
type Headed = (Candidate, Result<Snapshot, Error>);

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
        let candidates = self.read_headers(found.candidates, report);
        let tokens = tokens(candidates.iter().filter_map(|(_, snapshot)| snapshot.as_ref().ok()));
        let (unfenced, readings) = Unfenced::check_and_read(tpm, &policy::at_entry(&tokens))?;
        let mut state = self.state(&tokens, readings, report)?;
        record(&tokens, &mut state, tpm, report);
        let proven = self.prove_one(candidates, tpm, &unfenced, &mut state, report)?;

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
    /// length and logical sector size in bytes), else the root volume is found as a boot would. In a fenced boot only the
    /// policies are judged, by the PCR values that this boot's unlock recorded.
    ///
    /// # Errors
    /// Those of the stages up to verify.
    pub fn dry_run(&self, volume: Option<(&dyn Source, u64, u32)>, report: &mut Report) -> Result<(), Error> {
        self.lock_memory(report);
        let mut tpm = EsapiTpm::open(self.tpm)?;
        let (named, candidates) = match volume {
            Some((source, length, sector)) => {
                (Some((source, self.read_header(source, length, sector, report)?)), Vec::new())
            }
            None => {
                let discovery = Discovery::open(self.root.to_owned(), uevent::Stationary);
                let found = report.stage("discover", |_| discovery.find(Duration::ZERO))?;
                note(&found, report);
                (None, self.read_headers(found.candidates, report))
            }
        };
        let found = candidates.iter().filter_map(|(_, snapshot)| snapshot.as_ref().ok());
        let snapshots: Vec<&Snapshot> = named.iter().map(|(_, snapshot)| snapshot).chain(found).collect();
        let tokens = tokens(snapshots.iter().copied());
        match Unfenced::check_and_read(&mut tpm, &policy::at_entry(&tokens)) {
            Err(error @ FenceError::NotZero(_)) => return self.judge(&snapshots, &tokens, error, report),
            Err(error) => return Err(error.into()),
            Ok((unfenced, readings)) => {
                let mut state = self.state(&tokens, readings, report)?;
                match named {
                    Some((source, snapshot)) => {
                        self.prove(&snapshot, source, &mut tpm, &unfenced, &mut state, report)?;
                    }
                    None => {
                        self.prove_one(candidates, &mut tpm, &unfenced, &mut state, report)?;
                    }
                }
            }
        }
        report.outcome = Outcome::WouldUnlock;
        Ok(())
    }

    /// Judges the policies of `snapshots` by the PCR values in the report of this boot; without them it is `fenced`.
    fn judge(
        &self,
        snapshots: &[&Snapshot],
        tokens: &[Token],
        fenced: FenceError,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(readings) = Report::read(self.root).ok().and_then(|report| report.readings()) else {
            return Err(fenced.into());
        };
        report.warn(Warning::new(
            "boot-fenced",
            "This boot is fenced, nothing can be unsealed: policies are judged by the PCR values that its unlock found",
        ));
        let mut state = self.state(tokens, readings, report)?;
        let mut refusal = None;
        for snapshot in snapshots {
            let mut tokens = Tokens::new(snapshot.tokens());
            let holds = tokens.evaluate(&self.rules(), &mut state);
            refuse(&tokens, report);
            if let Some(token) = holds {
                let volume = report.volume.get_or_insert_default();
                volume.luks_uuid = Some(snapshot.uuid().to_string());
                (volume.token, volume.keyslot) = (Some(token.id), Some(token.keyslot));
                report.outcome = Outcome::PolicyHolds;
                return Ok(());
            }
            refusal = refusal.or_else(|| Some(tokens.into_error().into()));
        }
        Err(refusal.unwrap_or_else(|| SelectError::None.into()))
    }

    /// The one candidate that proves itself. A second one that does is refused: then nobody can say which is ours.
    fn prove_one(
        &self,
        candidates: Vec<Headed>,
        tpm: &mut dyn Tpm,
        unfenced: &Unfenced,
        state: &mut State,
        report: &mut Report,
    ) -> Result<Proven, Error> {
        let mut proven: Option<Proven> = None;
        let mut refused = None;
        for (candidate, snapshot) in candidates {
            report.volume = Some(described(&candidate));
            let outcome = snapshot.and_then(|snapshot| {
                let verified = self.prove(&snapshot, &candidate.file, tpm, unfenced, state, report)?;
                Ok((snapshot, verified))
            });
            match outcome {
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

    fn read_headers(&self, candidates: Vec<Candidate>, report: &mut Report) -> Vec<Headed> {
        let read = |candidate: Candidate| {
            report.volume = Some(described(&candidate));
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

    fn prove<S: Source + ?Sized>(
        &self,
        snapshot: &Snapshot,
        source: &S,
        tpm: &mut dyn Tpm,
        unfenced: &Unfenced,
        state: &mut State,
        report: &mut Report,
    ) -> Result<Verified, Error> {
        report.volume.get_or_insert_default().luks_uuid = Some(snapshot.uuid().to_string());
        let rules = self.rules();
        let mut tokens = Tokens::new(snapshot.tokens());
        let mut refusal = None;
        while let Some(unsealed) = report.stage("unseal", |_| tokens.unseal(tpm, unfenced, &rules, state)) {
            let verified = report.stage("verify", |_| self.verify(&unsealed, snapshot, source));
            let token = unsealed.token();
            match verified {
                Ok(verified) => {
                    let volume = report.volume.get_or_insert_default();
                    volume.token = Some(token.id);
                    volume.keyslot = Some(token.keyslot);
                    refuse(&tokens, report);
                    for warning in &verified.warnings {
                        report.warn(warning.clone());
                    }
                    return Ok(verified);
                }
                Err(error) => {
                    report.refused_tokens.push(TokenReport::new(token.id, error.slug(), error.chain()));
                    refusal = refusal.or(Some(error));
                }
            }
        }
        refuse(&tokens, report);
        Err(refusal.unwrap_or_else(|| tokens.into_error().into()))
    }

    fn rules(&self) -> Rules {
        Rules {
            allow_unbound: self.config.policy.allow_unbound,
            require_fence: self.config.policy.require_fence,
        }
    }

    /// What is known when tokens are judged. Signature files are read only if a token asks for one.
    fn state(&self, tokens: &[Token], readings: Readings, report: &mut Report) -> Result<State, Error> {
        let mut signatures = Signatures::default();
        if tokens.iter().any(|token| token.kind() == Kind::Signed) {
            let (found, unusable) = signature_files::load(self.root, self.signature)?;
            for error in unusable {
                report.warn(Warning::new(error.slug(), crate::error::chain(&error)));
            }
            signatures = found;
        }
        let active = readings.iter().map(PcrValues::bank).collect();
        Ok(State { active, readings, signatures })
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

/// The tokens of all snapshots that can be read; of the others nobody asks anything yet.
fn tokens<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> Vec<Token> {
    let all = snapshots.flat_map(|snapshot| snapshot.tokens());
    all.filter_map(|(id, value)| Token::parse(*id, value).ok()).collect()
}

/// Notes the values of all PCRs that `tokens` are about, as they are before anything is unsealed: in the booted system
/// they tell whether a token would open again.
fn record(tokens: &[Token], state: &mut State, tpm: &mut dyn Tpm, report: &mut Report) {
    for token in tokens {
        let (bank, pcrs) = policy::concerns(token, &state.active);
        if state.active.contains(&bank)
            && let Err(error) = state.readings.ensure(tpm, bank, pcrs)
        {
            report.warn(Warning::new("pcrs-not-recorded", crate::error::chain(&error)));
        }
    }
    report.record(&state.readings);
}

/// Notes why tokens gave no secret.
fn refuse(tokens: &Tokens<'_>, report: &mut Report) {
    for skipped in tokens.skipped() {
        let mut token = TokenReport::new(skipped.token, skipped.reason.slug(), skipped.text());
        let differences = skipped.mismatch.iter().flat_map(Mismatch::differences);
        token.pcrs = differences
            .map(|difference| PcrReport {
                pcr: difference.pcr.number(),
                enrolled: hex::encode(&difference.enrolled),
                now: hex::encode(&difference.now),
            })
            .collect();
        report.refused_tokens.push(token);
    }
}

fn described(candidate: &Candidate) -> VolumeReport {
    VolumeReport {
        device: candidate.path.display().to_string(),
        partition_uuid: Some(candidate.part_uuid.to_string()),
        ..VolumeReport::default()
    }
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
