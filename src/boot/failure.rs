//! Fences a failed boot, so that nobody gets the key in the rest of it.

use std::path::Path;

use super::machine::Machine;
use crate::base::error::{Error, chain};
use crate::base::pcr::Pcr;
use crate::base::warning::Warning;
use crate::fence;
use crate::fence::measurement_log::MeasurementLog;
use crate::report::{FenceReport, Report};
use crate::tpm::Device;
use crate::tpm::esapi::EsapiTpm;

impl Machine<'_> {
    /// Fences a failed unlock, over the connection that it used or a new one.
    pub(super) fn fence_failure(&self, tpm: Option<EsapiTpm>, report: &mut Report) {
        let log = MeasurementLog::new(self.root);
        let open = || EsapiTpm::open(self.tpm).map_err(Error::from);
        let raise = |mut tpm| fence::raise_for_failure(&mut tpm, &log).map_err(Error::from);
        // A broken connection accepts no further command; a new one may.
        let raised = tpm.map_or_else(open, Ok).and_then(raise).or_else(|_| open().and_then(raise));
        match raised {
            Ok(logged) => {
                report.fence = Some(FenceReport {
                    pcr: Pcr::FENCE.number(),
                    banks: Vec::new(),
                    measured: "failure".to_owned(),
                });
                if let Some(error) = logged {
                    report.warn(Warning::new("measurement-log-failed", chain(&error)));
                }
            }
            Err(error) => report.warn(Warning::new("failure-not-fenced", error.to_string())),
        }
    }
}

/// Makes sure that PCR 15 is fenced after a failure outside this process: a killed unlock, or a root that did
/// not mount.
///
/// # Errors
/// The TPM's.
pub fn fence_failure(root: &Path, device: &Device) -> Result<(), Error> {
    let mut tpm = EsapiTpm::open(device)?;
    if let Some(error) = fence::ensure_for_failure(&mut tpm, &MeasurementLog::new(root))? {
        log::warn!("{}", chain(&error));
    }
    Ok(())
}
