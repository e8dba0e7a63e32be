//! Where we run: the root directory, the measured configuration, the TPM.

use std::path::Path;
use std::time::Duration;

use super::volume::Volume;
use crate::base::error::{Error, Failure, chain};
use crate::base::pcr::PcrValues;
use crate::base::source::Source;
use crate::base::warning::Warning;
use crate::config::Config;
use crate::discover::Candidate;
use crate::discover::uevent;
use crate::discover::uevent::Listener;
use crate::format::luks::Snapshot;
use crate::format::pcr_signature::Signatures;
use crate::format::token::systemd_tpm2::{Kind, Token};
use crate::policy::{State, TokenRules, files};
use crate::report::Report;
use crate::tpm::esapi::EsapiTpm;
use crate::tpm::readings::Readings;
use crate::tpm::{Device, TpmError};

/// The confidential VM that we run in.
#[derive(Debug)]
pub struct Machine<'a> {
    /// `/`, or another directory in tests.
    pub root: &'a Path,
    /// The measured configuration.
    pub config: &'a Config,
    /// The TPM to use.
    pub tpm: &'a Device,
    /// A file of signed policies to use instead of those below `root`.
    pub signature: Option<&'a Path>,
}

impl Machine<'_> {
    /// What the configuration requires of a TPM's token.
    pub(super) const fn token_rules(&self) -> TokenRules {
        TokenRules {
            allow_unbound: self.config.policy.allow_unbound,
            require_fence: self.config.policy.require_fence,
        }
    }

    pub(super) fn read_headers(&self, candidates: Vec<Candidate>, report: &mut Report) -> Vec<Volume> {
        let read = |candidate: Candidate| {
            let (size, sector) = (candidate.size, candidate.sector.bytes());
            let snapshot = self.read_header(&candidate.file, size, sector, report);
            Volume { candidate, snapshot }
        };
        candidates.into_iter().map(read).collect()
    }

    pub(super) fn read_header<S: Source + ?Sized>(
        &self,
        source: &S,
        length: u64,
        sector: u32,
        report: &mut Report,
    ) -> Result<Snapshot, Error> {
        let read = || Snapshot::read(source, length, sector, &self.config.allow_luks_flags);
        let snapshot = report.stages.time("header", read)?;
        if let Some(slug) = snapshot.condition().slug() {
            report.warn(Warning::new(slug, "One of the header's two copies is not used"));
        }
        Ok(snapshot)
    }

    /// The facts by which tokens are judged. Signature files are read only if a token needs one.
    pub(super) fn state(
        &self,
        tokens: &[Token],
        readings: Readings,
        report: &mut Report,
    ) -> Result<State, Error> {
        let active = readings.iter().map(PcrValues::bank).collect();
        Ok(State { active, readings, signatures: self.signatures(tokens, report)? })
    }

    pub(super) fn signatures(&self, tokens: &[Token], report: &mut Report) -> Result<Signatures, Error> {
        if !tokens.iter().any(|token| token.kind() == Kind::Signed) {
            return Ok(Signatures::default());
        }
        let (signatures, unusable) = files::load(self.root, self.signature)?;
        for error in unusable {
            report.warn(Warning::new(error.slug(), chain(&error)));
        }
        Ok(signatures)
    }

    /// Opens the TPM as soon as its device exists: udev may be loading its driver at this moment.
    pub(super) fn open_tpm(&self, listener: &Listener) -> Result<EsapiTpm, TpmError> {
        let nodes = self.tpm.nodes();
        if !nodes.is_empty() {
            // A timeout is no error here: opening will say what is missing.
            let _appeared = uevent::wait_until(listener, TPM_TIMEOUT, || {
                Ok::<_, uevent::WaitError>(nodes.iter().any(|node| node.exists()).then_some(()))
            });
        }
        EsapiTpm::open(self.tpm)
    }

    pub(super) fn lock_memory(&self, report: &mut Report) {
        if let Err(error) = crate::sys::memory::lock() {
            report.warn(Warning::new(error.slug(), chain(&error)));
        }
    }
}

/// How long to wait for the TPM's device node.
const TPM_TIMEOUT: Duration = Duration::from_secs(10);
