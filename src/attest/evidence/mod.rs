//! Evidence of this machine's state, bound to report data, in Trustee's format.
//!
//! To support SEV-SNP, TDX or Azure's paravisor, implement [`Evidence`] once for each.

#[cfg(feature = "test-double")]
pub mod sample;
pub mod tpm;

use serde_json::Value;
use thiserror::Error;

use super::protocol::{ReportData, Tee};
use super::settings::{EvidenceKind, Settings};
use crate::base::error::failures;
use crate::tpm::{Tpm, TpmError};

/// A platform that can prove its state.
pub trait Evidence {
    /// The platform's name in the protocol.
    fn tee(&self) -> Tee;

    /// Does the slow work that does not need a challenge. Called before each challenge; all calls but the
    /// first do nothing.
    ///
    /// # Errors
    /// The platform's.
    fn prepare(&mut self) -> Result<(), EvidenceError> {
        Ok(())
    }

    /// Evidence bound to `report_data`, in the JSON of Trustee's verifier for this platform. Certificates
    /// (`cert_chain`, `vcek`) and event logs (`cc_eventlog`) belong inside it.
    ///
    /// # Errors
    /// The platform's.
    fn collect(&mut self, report_data: &ReportData) -> Result<Value, EvidenceError>;
}

/// All evidence of this machine's state.
pub struct Attester<'a> {
    /// The platform that decides which verifier is used.
    pub primary: Box<dyn Evidence + 'a>,
    /// Other devices, such as a TPM beside a TEE. Their evidence is hashed into the report data of the
    /// primary.
    pub additional: Vec<Box<dyn Evidence + 'a>>,
    /// Init-data whose digest the primary's evidence carries.
    pub init_data: Option<&'a str>,
}

impl<'a> Attester<'a> {
    /// With a single platform.
    #[must_use]
    pub fn new(primary: impl Evidence + 'a) -> Self {
        Self { primary: Box::new(primary), additional: Vec::new(), init_data: None }
    }

    /// With the evidence that `settings` name, using `tpm` if they need one; `None` if it is missing.
    #[must_use]
    pub fn configured(settings: &'a Settings, tpm: Option<&'a mut dyn Tpm>) -> Option<Self> {
        let attester = Self::by(settings.evidence, tpm)?;
        Some(Self { init_data: settings.init_data.as_deref(), ..attester })
    }

    /// The same, for a kind of evidence alone.
    #[must_use]
    pub fn by(kind: EvidenceKind, tpm: Option<&'a mut dyn Tpm>) -> Option<Self> {
        match kind {
            EvidenceKind::Tpm => Some(Self::new(tpm::TpmEvidence::new(tpm?))),
            #[cfg(feature = "test-double")]
            EvidenceKind::Sample => Some(Self::new(sample::SampleEvidence)),
        }
    }

    /// Prepares all evidence.
    ///
    /// # Errors
    /// A platform's.
    pub fn prepare(&mut self) -> Result<(), EvidenceError> {
        self.primary.prepare()?;
        self.additional.iter_mut().try_for_each(|evidence| evidence.prepare())
    }

    /// The name of the primary platform.
    #[must_use]
    pub fn tee(&self) -> Tee {
        self.primary.tee()
    }
}

/// Why there is no evidence.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// The TPM failed.
    #[error("Quoting the PCRs")]
    Tpm(#[source] TpmError),
}

failures! { EvidenceError:
    Self::Tpm(error) => from error;
}
