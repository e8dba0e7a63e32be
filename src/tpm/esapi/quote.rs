//! Quotes PCRs with a real TPM's attestation key.

use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::reserved_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Data, Public, SignatureScheme};
use tss_esapi::traits::{Marshall, UnMarshall};

use super::pcr::selection_list;
use super::{EsapiTpm, library};
use crate::base::pcr::{Bank, PcrMask};
use crate::format::tpm2::attestation_key::AttestationKey;
use crate::format::tpm2::quote::Quote;
use crate::format::tpm2::template;
use crate::tpm::{TpmError, Verb};

impl EsapiTpm {
    /// The attestation key: the held one, or else one derived for this verb.
    pub(super) fn attestation_key_pair(&mut self) -> Result<(KeyHandle, AttestationKey), TpmError> {
        match &self.held {
            Some(held) => Ok(held.clone()),
            None => self.derive_attestation_key(),
        }
    }

    /// Excludes the attestation key from what this verb flushes.
    pub(super) fn keep_attestation_key(&mut self) -> Result<(), TpmError> {
        let (handle, key) = self.attestation_key_pair()?;
        self.loaded.retain(|loaded| *loaded != handle.into());
        self.held = Some((handle, key));
        Ok(())
    }

    /// Derives the attestation key as a transient object.
    fn derive_attestation_key(&mut self) -> Result<(KeyHandle, AttestationKey), TpmError> {
        let doing = "Making the attestation key";
        let template = Public::unmarshall(&template::attestation_key()).map_err(library(doing))?;
        let made = self.call(Verb::CreatePrimary, Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Endorsement, template.clone(), None, None, None, None)
        });
        let made = made.map_err(|error| match error {
            TpmError::OwnerAuth { verb } => TpmError::EndorsementAuth { verb },
            other => other,
        })?;
        self.loaded.push(made.key_handle.into());
        let public = made.out_public.marshall().map_err(library(doing))?;
        let key = AttestationKey::from_public(&public).ok_or_else(|| TpmError::Library {
            doing,
            what: "the TPM made another key than the template's".to_owned(),
        })?;
        Ok((made.key_handle, key))
    }

    pub(super) fn quote_pcrs(
        &mut self,
        nonce: &[u8; 32],
        bank: Bank,
        mask: PcrMask,
    ) -> Result<Quote, TpmError> {
        let doing = "Quoting PCRs";
        let (handle, key) = self.attestation_key_pair()?;
        let data = Data::from_bytes(nonce).map_err(library(doing))?;
        let selection = selection_list(std::iter::once((bank, mask)))?;
        // The key's own scheme: RSASSA with SHA-256.
        let (attest, signature) = self.call(Verb::Quote, Some(AuthSession::Password), |context| {
            context.quote(handle, data.clone(), SignatureScheme::Null, selection.clone())
        })?;
        let message = attest.marshall().map_err(library(doing))?;
        let signature = signature.marshall().map_err(library(doing))?;
        Quote::new(message, signature, key)
            .map_err(|error| TpmError::Library { doing, what: crate::base::error::chain(&error) })
    }
}
