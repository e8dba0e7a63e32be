//! Enrols a new secret for a key broker: adds a keyslot, a token and a proof to the copy of the metadata, and
//! tries them as a boot will. The key document for the key broker is written to a new file before the volume
//! changes, because a keyslot without its secret is useless, while a document without its keyslot is
//! harmless.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::metadata::Metadata;
use super::seal::{SealError, prove, random_secret};
use super::signing_key::SigningKey;
use crate::attest::protocol::ResourceTemplate;
use crate::attest::{Delivered, ResourcePath, key_document};
use crate::base::error::{Error, failures};
use crate::base::secret::{Secret, VolumeKey};
use crate::base::source::Source;
use crate::base::warning::Warning;
use crate::format::luks::Snapshot;
use crate::format::luks::binding;
use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::owner_key::PublicKey;
use crate::format::token::key_broker::KeyBrokerToken;
use crate::format::token::passphrase::passphrase;
use crate::prove;
use crate::prove::settings::{Authentic, Policy, ProofRules};

/// A request to enrol a key for a key broker.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Where to write the key document; the file must not exist yet.
    pub document: PathBuf,
    /// Where the key broker will keep it, if not where the image's configuration says.
    pub path: Option<ResourcePath>,
    /// The configuration's template, if it has one.
    pub template: Option<ResourceTemplate>,
}

/// The key that was enrolled for a key broker.
#[derive(Debug, Serialize)]
pub struct BrokerSlot {
    /// The new keyslot.
    pub keyslot: u32,
    /// The new token.
    pub token: u32,
    /// The key document to upload.
    pub document: PathBuf,
    /// Where to upload it, if known.
    pub resource: Option<String>,
    /// The owner key that signed, by its name.
    pub signer: Option<String>,
}

impl Broker {
    /// Refuses an existing file, before anything else is done.
    pub(super) fn check(&self) -> Result<(), KbsError> {
        match self.document.symlink_metadata() {
            Ok(_) => Err(KbsError::Exists(self.document.clone())),
            Err(_) => Ok(()),
        }
    }

    /// Warns of a path that no boot under this configuration would request.
    pub(super) fn judge(&self) -> Option<Warning> {
        let (path, template) = (self.path.as_ref()?, self.template.as_ref()?);
        template.accept(&path.to_string()).is_none().then(|| {
            Warning::new(
                "kbs-path-elsewhere",
                format!("{path} is outside of the configuration's kbs.resource: a boot under it would not ask for it"),
            )
        })
    }

    /// Where the document belongs.
    fn resource(&self, snapshot: &Snapshot) -> Option<String> {
        let template = || self.template.as_ref()?.path(snapshot.uuid());
        self.path.clone().or_else(template).map(|path| path.to_string())
    }
}

/// A secret, and the document that contains it.
pub(super) struct NewBrokerKey {
    secret: Secret,
    document: Secret,
}

impl NewBrokerKey {
    /// Generates a secret for the volume with this key.
    pub(super) fn new(key: &VolumeKey) -> Result<Self, SealError> {
        let secret = random_secret()?;
        let document = key_document::write(&secret, &VolumeKeyDigest::of(key));
        Ok(Self { secret, document })
    }

    /// Adds the keyslot.
    pub(super) fn add_keyslot(&self, metadata: &mut Metadata, key: &VolumeKey) -> Result<u32, Error> {
        Ok(metadata.add_keyslot(key, &passphrase(&self.secret))?)
    }

    /// Adds the token that names the keyslot and binds it as it is in `snapshot`.
    pub(super) fn add_token(
        &self,
        metadata: &mut Metadata,
        snapshot: &Snapshot,
        keyslot: u32,
        key: &VolumeKey,
        (broker, owner): (&Broker, Option<&SigningKey>),
    ) -> Result<BrokerSlot, Error> {
        let proof = prove(&self.secret, &binding::message(snapshot, keyslot, key)?, owner)?;
        let path = broker.path.as_ref().map(ToString::to_string);
        // The header assigns the number.
        let token = KeyBrokerToken { id: 0, keyslot, path, proof: Some(proof) };
        let token = metadata.add_token(&token.to_json())?;
        let signer = owner.map(|owner| owner.public().id().to_string());
        let resource = broker.resource(snapshot);
        Ok(BrokerSlot { keyslot, token, document: broker.document.clone(), resource, signer })
    }

    /// Tries the new key as a boot will: reads the token and the document back, opens the keyslot, and checks
    /// binding, pin and signature.
    pub(super) fn try_token(
        &self,
        after: &Snapshot,
        bytes: &Vec<u8>,
        number: u32,
        owner: Option<&SigningKey>,
    ) -> Result<(), Error> {
        let json = after.tokens().get(&number).ok_or(SealError::Trial("the token was not written"))?;
        let token = KeyBrokerToken::parse(number, json)?;
        let delivered = Delivered::parse(&self.document)
            .map_err(|_| SealError::Trial("the key document cannot be read back"))?;
        check(&token, &delivered, after, bytes, owner.map(SigningKey::public))
    }

    /// Writes the key document durably to a file that only its owner can read.
    pub(super) fn write_document(&self, path: &Path) -> Result<(), KbsError> {
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KbsError::Exists(path.to_owned()));
            }
            opened => opened.map_err(|source| KbsError::Write { path: path.to_owned(), source })?,
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = file
            .write_all(self.document.expose())
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(folder)?.sync_all());
        written.map_err(|source| {
            // The file is ours, and useless since the volume will not change.
            let _ = std::fs::remove_file(path);
            KbsError::Write { path: path.to_owned(), source }
        })
    }
}

/// Opens the token's keyslot with a delivered key, as a boot under the strict defaults would. If there is an
/// `owner`, only the owner vouches for it.
///
/// # Errors
/// Those of [`prove::verify_delivered`].
pub fn check(
    token: &KeyBrokerToken,
    delivered: &Delivered,
    snapshot: &Snapshot,
    source: &(impl Source + ?Sized),
    owner: Option<&PublicKey>,
) -> Result<(), Error> {
    let area = snapshot.read_area(source, token.keyslot)?;
    let authentic = Authentic {
        owner_keys: owner.cloned().into_iter().collect(),
        key_broker: owner.is_none(),
        ..Authentic::default()
    };
    let rules = ProofRules { policy: &Policy::default(), trusted: &authentic };
    prove::verify_delivered(token, delivered, snapshot, &area, rules)?;
    Ok(())
}

/// Why there is no key document.
#[derive(Debug, thiserror::Error)]
pub enum KbsError {
    /// The file exists already, perhaps as another volume's document.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The file could not be written.
    #[error("Writing the key document {}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

failures! { KbsError:
    Self::Exists(_) => "key-document-exists", Usage,
        "Name a new file; one of an enrolment that was interrupted is of no use, and may be removed";
    Self::Write { .. } => "key-document-not-written", Os, "Nothing was changed";
}
