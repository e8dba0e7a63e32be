//! Trustee's test evidence, which proves nothing. In test builds only.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::{Evidence, EvidenceError};
use crate::attest::protocol::{ReportData, Tee};

/// No platform at all.
pub struct SampleEvidence;

impl Evidence for SampleEvidence {
    fn tee(&self) -> Tee {
        Tee::Sample
    }

    fn collect(&mut self, report_data: &ReportData) -> Result<Value, EvidenceError> {
        Ok(json!({"svn": "1", "report_data": Base64::encode_string(report_data.digest())}))
    }
}
