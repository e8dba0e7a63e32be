//! Loads parent keys and sealed objects into a real TPM.

use tss_esapi::handles::{KeyHandle, ObjectHandle};
use tss_esapi::interface_types::reserved_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{EncryptedSecret, Private, Public, SymmetricDefinitionObject};
use tss_esapi::traits::{Marshall, UnMarshall};

use super::{EsapiTpm, library};
use crate::format::tpm2::blob::Sealed;
use crate::format::tpm2::parent::Parent;
use crate::format::tpm2::srk::{Srk, name_of};
use crate::format::tpm2::template::Primary;
use crate::tpm::{TpmError, Verb};

impl EsapiTpm {
    /// Loads `sealed` below its parent, with one command if the token names a persistent key that exists.
    ///
    /// If that handle is empty or holds another key, deriving the token's key may still work: the TPM was not
    /// cleared, only the persistent copy is gone or was replaced. The key is derived as a transient object;
    /// nothing is made persistent.
    pub(super) fn load(
        &mut self,
        sealed: &Sealed,
        parent: &Parent,
    ) -> Result<(KeyHandle, ObjectHandle), TpmError> {
        let srk = match parent {
            Parent::Persistent(srk) => srk,
            Parent::Legacy(alg) => {
                let (parent, _) = self.create_primary(Primary::Legacy(*alg))?;
                return Ok((parent, self.load_below(parent, sealed)?));
            }
        };
        let parent = self.deserialize(srk)?;
        match self.load_below(parent, sealed) {
            Ok(object) => Ok((parent, object)),
            Err(error @ (TpmError::SrkAbsent | TpmError::SrkOther | TpmError::ForeignTpm { .. })) => {
                let parent = self.derive(srk, error)?;
                Ok((parent, self.load_below(parent, sealed)?))
            }
            Err(error) => Err(error),
        }
    }

    /// Creates a primary key as a transient object, and returns its marshalled `TPMT_PUBLIC` too.
    pub(super) fn create_primary(&mut self, primary: Primary) -> Result<(KeyHandle, Vec<u8>), TpmError> {
        let template = Public::unmarshall(&primary.public()).map_err(library("Writing a key template"))?;
        let made = self.call(Verb::CreatePrimary, Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Owner, template.clone(), None, None, None, None)
        })?;
        self.loaded.push(made.key_handle.into());
        let public = made.out_public.marshall().map_err(library("Reading a primary key"))?;
        Ok((made.key_handle, public))
    }

    /// The handle of a persistent key as the token describes it. Sends no command.
    fn deserialize(&mut self, srk: &Srk) -> Result<KeyHandle, TpmError> {
        let handle =
            self.context.tr_deserialize(&srk.to_bytes()).map_err(library("Reading the parent key"))?;
        Ok(handle.into())
    }

    /// Derives the key that `srk` names. If this TPM derives another, or none, the result is `error`.
    fn derive(&mut self, srk: &Srk, error: TpmError) -> Result<KeyHandle, TpmError> {
        let Some(primary) = Primary::of(srk.public()) else { return Err(error) };
        match self.create_primary(primary) {
            Ok((parent, public)) if name_of(&public).is_ok_and(|name| name == srk.name()) => Ok(parent),
            Ok(_) => Err(TpmError::ForeignTpm { rc: 0 }),
            Err(second) => {
                log::info!("Parent key cannot be derived: {second}");
                Err(error)
            }
        }
    }

    fn load_below(&mut self, parent: KeyHandle, sealed: &Sealed) -> Result<ObjectHandle, TpmError> {
        let doing = "Reading the sealed object";
        let mut private = Private::try_from(sealed.private().to_vec()).map_err(library(doing))?;
        let public = Public::unmarshall(sealed.public()).map_err(library(doing))?;
        if let Some(seed) = sealed.seed() {
            let seed = EncryptedSecret::try_from(seed.to_vec()).map_err(library(doing))?;
            private = self.call(Verb::Import, Some(AuthSession::Password), |context| {
                let (duplicate, inner) = (private.clone(), SymmetricDefinitionObject::Null);
                context.import(parent.into(), None, public.clone(), duplicate, seed.clone(), inner)
            })?;
        }
        let object = self.call(Verb::Load, Some(AuthSession::Password), |context| {
            context.load(parent, private.clone(), public.clone())
        })?;
        self.loaded.push(object.into());
        Ok(object.into())
    }
}
