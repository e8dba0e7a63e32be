//! Seals secrets with a real TPM.

use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::data_handles::Persistent;
use tss_esapi::interface_types::reserved_handles::Provision;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Public, SensitiveData};
use tss_esapi::traits::{Marshall, UnMarshall};

use super::{EsapiTpm, library};
use crate::base::secret::Secret;
use crate::format::tpm2::blob::Sealed;
use crate::format::tpm2::rc::RcClass;
use crate::format::tpm2::srk::Srk;
use crate::format::tpm2::template::{Primary, PrimaryAlg, SRK_HANDLE, sealed_object};
use crate::tpm::{TpmError, Verb};

impl EsapiTpm {
    pub(super) fn seal_below(
        &mut self,
        secret: &Secret,
        policy: &[u8; 32],
        parent: Option<u32>,
    ) -> Result<(Sealed, Srk), TpmError> {
        let doing = "Sealing";
        let (parent, srk) = match parent {
            None => self.storage_root_key()?,
            Some(handle) => self.persistent_key(
                PersistentTpmHandle::new(handle).map_err(library("Naming the parent key"))?,
            )?,
        };
        let template = Public::unmarshall(&sealed_object(policy)).map_err(library(doing))?;
        let session = self.start_session(parent, SessionType::Hmac)?;
        let made = self.call(Verb::Create, Some(session), |context| {
            let data = SensitiveData::from_bytes(secret.expose())?;
            context.create(parent, template.clone(), None, Some(data), None, None)
        })?;
        self.forget(session);
        let public = made.out_public.marshall().map_err(library(doing))?;
        let sealed = Sealed::new(made.out_private.as_bytes().to_vec(), public, None)
            .map_err(|error| TpmError::Library { doing, what: error.to_string() })?;
        Ok((sealed, srk))
    }

    /// The storage root key: the persistent one, or else a new one, which is made persistent as
    /// systemd-cryptenroll does.
    fn storage_root_key(&mut self) -> Result<(KeyHandle, Srk), TpmError> {
        let persistent = PersistentTpmHandle::new(SRK_HANDLE).map_err(library("Naming the parent key"))?;
        match self.persistent_key(persistent) {
            Err(TpmError::SrkAbsent) => {}
            found => return found,
        }
        let primary = match self.create_primary(Primary::Srk(PrimaryAlg::Ecc)) {
            Err(TpmError::Refused { rc, .. }) if RcClass::of(rc) == RcClass::Unsupported => {
                self.create_primary(Primary::Srk(PrimaryAlg::Rsa))?.0
            }
            made => made?.0,
        };
        self.call(Verb::EvictControl, Some(AuthSession::Password), |context| {
            context.evict_control(Provision::Owner, primary.into(), Persistent::Persistent(persistent))
        })?;
        self.persistent_key(persistent)
    }

    fn persistent_key(&mut self, handle: PersistentTpmHandle) -> Result<(KeyHandle, Srk), TpmError> {
        let doing = "Reading the parent key";
        let key = self.call(Verb::ReadPublic, None, |context| {
            context.tr_from_tpm_public(TpmHandle::Persistent(handle))
        })?;
        let bytes = self.context.tr_serialize(key).map_err(library(doing))?;
        let srk = Srk::parse(&bytes).map_err(|error| TpmError::Library { doing, what: error.to_string() })?;
        Ok((key.into(), srk))
    }
}
