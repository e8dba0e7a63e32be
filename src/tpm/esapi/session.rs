//! Policy sessions on a real TPM: unseals an object through a session that encrypts the response.

use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, ObjectHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, SymmetricDefinition};

use super::approval::Ticket;
use super::pcr::selection_list;
use super::{EsapiTpm, library};
use crate::base::secret::Secret;
use crate::format::tpm2::step::PolicyStep;
use crate::tpm::{TpmError, Verb};

impl EsapiTpm {
    /// Satisfies the policy in one session, salted with `parent`, and unseals through the same session, which
    /// authorises the command and encrypts the response.
    pub(super) fn unseal_by_policy(
        &mut self,
        parent: KeyHandle,
        object: ObjectHandle,
        steps: &[PolicyStep],
        tickets: &[Ticket],
    ) -> Result<Secret, TpmError> {
        let session = self.start_session(parent, SessionType::Policy)?;
        let policy = PolicySession::try_from(session).map_err(library("Starting a policy session"))?;
        let mut restarts = 0;
        let secret = loop {
            self.satisfy(policy, steps, tickets)?;
            match self.call(Verb::Unseal, Some(session), |context| context.unseal(object)) {
                Ok(secret) => break secret,
                Err(TpmError::PcrChanged) if restarts < RESTARTS => {
                    restarts += 1;
                    self.call(Verb::PolicyRestart, None, |context| context.policy_restart(policy))?;
                }
                Err(error) => return Err(error),
            }
        };
        self.forget(session);
        Ok(Secret::copy_of(secret.as_bytes()))
    }

    /// Starts a session salted with `parent`: AES-128-CFB, SHA-256. Responses are encrypted, and the commands
    /// of an HMAC session too. The TPM ends it after the first command that it authorises successfully. Only
    /// the TPM that has `parent` can decrypt the salt, so the session is as trustworthy as our knowledge of
    /// that key.
    pub(super) fn start_session(
        &mut self,
        parent: KeyHandle,
        kind: SessionType,
    ) -> Result<AuthSession, TpmError> {
        let doing = "Starting a session";
        let session = self.call(Verb::StartAuthSession, None, |context| {
            let (symmetric, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
            context.start_auth_session(Some(parent), None, None, kind, symmetric, hash)
        })?;
        let session = session.ok_or_else(|| TpmError::Library { doing, what: "no session".to_owned() })?;
        self.loaded.push(SessionHandle::from(session).into());
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_encrypt(true)
            .with_decrypt(kind == SessionType::Hmac)
            .with_continue_session(false)
            .build();
        self.context.tr_sess_set_attributes(session, attributes, mask).map_err(library(doing))?;
        Ok(session)
    }

    /// Forgets a session that the TPM ended after its use. Sends no command. The library expects a flush; it
    /// removes its entry nevertheless, and returns an error.
    pub(super) fn forget(&mut self, session: AuthSession) {
        let mut handle = ObjectHandle::from(SessionHandle::from(session));
        self.loaded.retain(|loaded| *loaded != handle);
        let _ = self.context.tr_close(&mut handle);
    }

    /// Runs `steps`. `tickets` are those of the authorisations among them, in order.
    fn satisfy(
        &mut self,
        policy: PolicySession,
        steps: &[PolicyStep],
        tickets: &[Ticket],
    ) -> Result<(), TpmError> {
        let mut tickets = tickets.iter();
        for step in steps {
            match step {
                // No digest given: the TPM uses the present PCRs, and the unseal shows whether they match.
                PolicyStep::Pcr(bank, mask) => {
                    let selection = selection_list(std::iter::once((*bank, *mask)))?;
                    self.call(Verb::PolicyPcr, None, |context| {
                        context.policy_pcr(policy, Digest::default(), selection.clone())
                    })?;
                }
                PolicyStep::Authorize(authorization) => {
                    let ticket = tickets.next().ok_or_else(|| TpmError::Library {
                        doing: "Authorising a policy",
                        what: "no ticket".to_owned(),
                    })?;
                    self.authorize(policy, authorization, *ticket)?;
                }
            }
        }
        Ok(())
    }
}

/// How often a policy is restarted because PCRs changed meanwhile; systemd does so 30 times.
const RESTARTS: u32 = 10;
