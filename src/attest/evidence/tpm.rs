//! Evidence `tpm`: a quote over all 24 PCRs of the SHA-256 bank.
//!
//! A TPM that the host emulates quotes whatever the host likes, so the key broker's policy must know the
//! attestation key.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::{Evidence, EvidenceError};
use crate::attest::protocol::{ReportData, Tee};
use crate::base::hex;
use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::format::tpm2::quote::Quote;
use crate::tpm::{Tpm, TpmError};

/// The TPM as a platform. Once prepared, the attestation key stays loaded until this is dropped.
pub struct TpmEvidence<'a> {
    tpm: &'a mut dyn Tpm,
}

impl<'a> TpmEvidence<'a> {
    /// Quotes with this TPM.
    pub fn new(tpm: &'a mut dyn Tpm) -> Self {
        Self { tpm }
    }

    /// PCR values and a quote that match: PCRs may be extended between the two.
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

    /// A discrete TPM takes seconds to derive an RSA key.
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

/// PCRs rarely change during boot, but a host that emulates the TPM could change them for ever.
const ATTEMPTS: u32 = 3;
