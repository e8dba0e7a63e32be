//! Signed policies on a real TPM: turns signatures into the TPM's tickets, and satisfies
//! `TPM2_PolicyAuthorize` with them.

use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::reserved_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::PolicySession;
use tss_esapi::structures::{
    Digest, Name, Nonce, Public, PublicKeyRsa, RsaSignature, Signature, VerifiedTicket,
};
use tss_esapi::traits::UnMarshall;
use tss_esapi::tss2_esys::TPMT_TK_VERIFIED;

use super::{EsapiTpm, library};
use crate::format::tpm2::step::{Authorization, PolicyStep};
use crate::tpm::{TpmError, Verb};

/// A reusable ticket: the library's own type cannot be copied.
#[derive(Clone, Copy)]
pub(super) struct Ticket(TPMT_TK_VERIFIED);

impl EsapiTpm {
    /// The tickets for the authorisations among `steps`, in order. Each key is flushed before anything else
    /// is loaded, since some TPMs have room for three objects only.
    pub(super) fn tickets(&mut self, steps: &[PolicyStep]) -> Result<Vec<Ticket>, TpmError> {
        let mut tickets = Vec::new();
        for step in steps {
            if let PolicyStep::Authorize(authorization) = step {
                tickets.push(self.cleanly(|tpm| tpm.ticket(authorization))?);
            }
        }
        Ok(tickets)
    }

    /// Replaces the session's digest with that of the key, if the key approved the digest so far.
    pub(super) fn authorize(
        &mut self,
        session: PolicySession,
        authorization: &Authorization,
        ticket: Ticket,
    ) -> Result<(), TpmError> {
        let doing = "Authorising a policy";
        let approved = Digest::from_bytes(&authorization.approved).map_err(library(doing))?;
        let reference = Nonce::from_bytes(&authorization.reference).map_err(library(doing))?;
        let name = Name::try_from(authorization.name.clone()).map_err(library(doing))?;
        self.call(Verb::PolicyAuthorize, None, |context| {
            let ticket = VerifiedTicket::try_from(ticket.0)?;
            context.policy_authorize(session, approved.clone(), reference.clone(), &name, ticket)
        })
    }

    fn ticket(&mut self, authorization: &Authorization) -> Result<Ticket, TpmError> {
        let doing = "Reading a signed policy";
        let key = self.load_public(authorization)?;
        let digest = Digest::from_bytes(&authorization.message()).map_err(library(doing))?;
        let signature =
            PublicKeyRsa::from_bytes(&authorization.signature).map_err(library(doing)).and_then(|bytes| {
                RsaSignature::create(HashingAlgorithm::Sha256, bytes).map_err(library(doing))
            })?;
        self.call(Verb::VerifySignature, None, |context| {
            context
                .verify_signature(key, digest.clone(), Signature::RsaSsa(signature.clone()))
                .and_then(TPMT_TK_VERIFIED::try_from)
        })
        .map(Ticket)
    }

    /// Loads the key into the owner hierarchy: a ticket of the null hierarchy would be refused.
    fn load_public(&mut self, authorization: &Authorization) -> Result<KeyHandle, TpmError> {
        let public = Public::unmarshall(&authorization.key).map_err(library("Reading a policy key"))?;
        let key = self.call(Verb::LoadExternal, None, |context| {
            context.load_external(None, public.clone(), Hierarchy::Owner)
        })?;
        self.loaded.push(key.into());
        Ok(key)
    }
}
