//! Evidence `tpm`: a quote over all 24 PCRs of the SHA-256 bank. Report data comes in, Trustee's JSON goes out.
//!
//! A TPM that the host emulates quotes whatever the host likes: it is the server's policy that has to know the attestation key.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::{Evidence, EvidenceError};
use crate::attest::protocol::{ReportData, Tee};
use crate::base::hex;
use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::format::tpm2::quote::Quote;
use crate::tpm::{Tpm, TpmError};

/// The TPM as a platform. Once prepared, the attestation key stays in the TPM until this is dropped.
pub struct TpmEvidence<'a> {
    tpm: &'a mut dyn Tpm,
}

impl<'a> TpmEvidence<'a> {
    /// Quotes by this TPM.
    pub fn new(tpm: &'a mut dyn Tpm) -> Self {
        Self { tpm }
    }

    /// Values and a quote that belong together: PCRs may be extended between the two.
    fn quoted(&mut self, nonce: &[u8; 32]) -> Result<(PcrValues, Quote), TpmError> {
        let all: PcrMask = (0..24).filter_map(Pcr::new).collect();
        for _ in 0..ATTEMPTS {
            let quote = self.tpm.quote(nonce, Bank::Sha256, all)?;
            let values = self.tpm.read_pcrs(&[(Bank::Sha256, all)])?;
            if let Some(values) = values.into_iter().next().filter(|values| quote.is_over(nonce, values)) {
                return Ok((values, quote));
            }
        }
        Err(TpmError::PcrChanged)
    }
}

impl Drop for TpmEvidence<'_> {
    fn drop(&mut self) {
        self.tpm.release();
    }
}

impl Evidence for TpmEvidence<'_> {
    fn tee(&self) -> Tee {
        Tee::Tpm
    }

    /// An RSA key takes a discrete TPM seconds.
    fn prepare(&mut self) -> Result<(), EvidenceError> {
        self.tpm.hold_attestation_key().map_err(EvidenceError::Tpm)
    }

    fn collect(&mut self, report_data: &ReportData) -> Result<Value, EvidenceError> {
        let (values, quote) = self.quoted(&report_data.qualifying_data()).map_err(EvidenceError::Tpm)?;
        let pcrs: Vec<String> = values.iter().map(|(_, value)| hex::encode(value)).collect();
        Ok(json!({
            "tpm_quote": {
                "signature": Base64::encode_string(quote.signature()),
                "message": Base64::encode_string(quote.message()),
                "pcrs": pcrs,
            },
            "ak_public": Base64::encode_string(&quote.key().spki()),
        }))
    }
}

/// PCRs rarely change while a machine boots; a host that emulates the TPM may let them change for ever.
const ATTEMPTS: u32 = 3;
