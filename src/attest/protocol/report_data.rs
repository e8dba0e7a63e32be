//! Report data, which binds evidence to the session's nonce, our key and the evidence of other devices: 64
//! bytes, of which each platform uses as many as fit.

use serde_json::json;
use sha2::{Digest, Sha384};

use super::canonical;
use super::challenge::Nonce;
use super::tee_key::PublicJwk;

/// A SHA-384 digest followed by zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportData([u8; FIELD]);

impl ReportData {
    /// For the primary evidence in protocol 0.4.0. `additional` is the text of the other devices' evidence as
    /// sent; empty if there is none.
    #[must_use]
    pub fn primary(nonce: &Nonce, key: &PublicJwk, additional: &str) -> Self {
        Self::of(&json!({"additional-evidence": additional, "nonce": nonce.as_str(), "tee-pubkey": key}))
    }

    /// For the evidence of another device, and for the only evidence of protocol 0.2.0.
    #[must_use]
    pub fn alone(nonce: &Nonce, key: &PublicJwk) -> Self {
        Self::of(&json!({"nonce": nonce.as_str(), "tee-pubkey": key}))
    }

    /// The whole field, as SEV-SNP and TDX report it.
    #[must_use]
    pub const fn field(&self) -> &[u8; FIELD] {
        &self.0
    }

    /// The digest, over which Azure's vTPM quotes.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        self.0.split_at(DIGEST).0
    }

    /// The first 32 bytes, over which the `tpm` evidence quotes (a TPM's `qualifyingData` holds at most a
    /// digest).
    #[must_use]
    pub fn qualifying_data(&self) -> [u8; 32] {
        // 64 is more than 32.
        self.0.first_chunk().copied().unwrap_or_default()
    }

    fn of(runtime_data: &serde_json::Value) -> Self {
        // Built above from strings and objects only, so there always is a text.
        let text = canonical::text(runtime_data).unwrap_or_default();
        debug_assert!(!text.is_empty());
        let mut field = [0; FIELD];
        field.split_at_mut(DIGEST).0.copy_from_slice(&Sha384::digest(text));
        Self(field)
    }
}

const FIELD: usize = 64;
const DIGEST: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;
    use base64ct::{Base64, Encoding};

    #[test]
    fn it_is_what_trustees_client_put_into_its_evidence() {
        // tests/data/kbs/sample-affirming/05
        let key = PublicJwk::from_coordinates(
            "TEh_O8Ioy3hyDqwfR-iNd6OxJ4BmPDR1jxCa8r2Qv6g",
            "8dYHTDlXWDMMkld6JCSsBgu248_l-_v4gXzV01KdLVE",
        );
        let nonce = Nonce::parse("eVv4JHneC46ji9qFNjBOnoizLg8JAu42TcX9ceehGFA=").unwrap();
        let data = ReportData::primary(&nonce, &key, "");
        assert_eq!(
            Base64::encode_string(data.digest()),
            "mzpWGpwwAYjIsWcX2JLMqrOgruDsflzT37tBfBRrWTokpWursTK4brg9obllfV+5"
        );
        assert_eq!(data.field()[DIGEST..], [0; 16]);
        assert_ne!(data, ReportData::alone(&nonce, &key));
        assert_ne!(data, ReportData::primary(&nonce, &key, "{}"));
    }

    #[test]
    fn a_tpm_quotes_its_first_32_bytes() {
        // tests/data/kbs/tpm-affirming/02: `report_data` in the token of the answer.
        let key = PublicJwk::from_coordinates(
            "fr6H06FcCchkIfW7svGUsB0d1HAQUGewi70DQpKEfFM",
            "xvrxjzptvBXsLgI-fUqdhWg5wHN79o7p--RXCWQvRhk",
        );
        let nonce = Nonce::parse("Seb6uXp+l48Qc9Egv4cl5ANvd7keys71NgUVIX6ea/c=").unwrap();
        let golden = "aa167960082d0aafa108d395ad7f4a289ae6e5b2c8ea830aebd9ed7412ba88bc";
        assert_eq!(hex::encode(&ReportData::primary(&nonce, &key, "").qualifying_data()), golden);
    }
}
