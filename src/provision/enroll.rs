//! Enrols new keys: sealed to the TPM, for a key broker, or as a recovery key. Removes old keyslots once the
//! new ones have passed their trial.
//!
//! Everything is made and tried on a copy of the metadata in memory. A key document is written after all
//! trials have passed, and the volume itself changes in one step at the end, so an interruption leaves it as
//! it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::broker_key;
use super::broker_key::{Broker, BrokerSlot};
use super::metadata::Metadata;
use super::open;
use super::open::{Key, OpenError, Opened};
use super::recovery;
use super::recovery::RecoveryKey;
use super::seal::{NewSeal, Seal, SealError, SealedSlot};
use super::signing_key::SigningKey;
use super::target::Target;
use super::wipe;
use super::wipe::{Slots, Wipe};
use crate::base::error::Error;
use crate::base::secret::Secret;
use crate::base::warning::Warning;
use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::luks::{FlagSet, Snapshot, emit};
use crate::prove;
use crate::tpm::Tpm;

/// A request to enrol keys.
pub struct Request<'a> {
    /// Device or image.
    pub volume: &'a Path,
    /// The directory that stands for `/`.
    pub root: &'a Path,
    /// How to open the volume.
    pub key: Key<'a>,
    /// What to seal a new key to.
    pub seal: Option<Seal>,
    /// Where to write a new key for a key broker.
    pub broker: Option<Broker>,
    /// Signs the bindings, so that the volume can prove its owner.
    pub sign: Option<&'a SigningKey>,
    /// Whether to add a recovery key.
    pub recovery: bool,
    /// Which old keyslots to remove.
    pub wipe: Wipe,
    /// LUKS flags that the header may carry.
    pub flags: &'a FlagSet,
}

/// The result.
#[derive(Debug, Serialize)]
pub struct Enrolled {
    /// Device or image.
    pub volume: PathBuf,
    /// UUID in the LUKS2 header.
    pub luks_uuid: String,
    /// The volume key's digest, as a configuration pins it.
    pub volume_key: String,
    /// The key sealed to the TPM.
    #[serde(flatten)]
    pub sealed: Option<SealedSlot>,
    /// The key for a key broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kbs: Option<BrokerSlot>,
    /// The keyslot of the recovery key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_keyslot: Option<u32>,
    /// Keyslots that were removed.
    pub wiped: BTreeSet<u32>,
    /// Choices that are allowed but weak.
    pub warnings: Vec<Warning>,
}

/// A change that was made and tried in memory, but not written to the volume yet.
#[must_use]
pub struct Prepared {
    /// What the volume will contain.
    pub enrolled: Enrolled,
    /// The recovery key. Show it before the change, or it might be lost.
    pub recovery: Option<RecoveryKey>,
    target: Target,
    metadata: Metadata,
}

impl Prepared {
    /// Makes and tries everything that `request` asks for, using `tpm` if needed.
    ///
    /// # Errors
    /// Those of the volume and the TPM; a dangerous choice; a trial that does not return what was put in; a
    /// key document that exists already or cannot be written.
    pub fn new(request: &Request<'_>, mut tpm: Option<&mut dyn Tpm>) -> Result<Self, Error> {
        request.broker.as_ref().map_or(Ok(()), Broker::check)?;
        let target = Target::open(request.volume, request.root)?;
        let (mut metadata, before) = Metadata::read(&target, request.flags)?;
        log::info!("Opening the volume");
        let bytes = metadata.bytes()?;
        let opened = match &mut tpm {
            Some(tpm) => open::open(&before, &bytes, request.key, Some(&mut **tpm)),
            None => open::open(&before, &bytes, request.key, None),
        }?;
        let mut enrolled = Enrolled {
            volume: request.volume.to_owned(),
            luks_uuid: before.uuid().to_string(),
            volume_key: VolumeKeyDigest::of(&opened.key).to_string(),
            sealed: None,
            kbs: None,
            recovery_keyslot: None,
            wiped: BTreeSet::new(),
            warnings: Vec::new(),
        };
        let mut proven = BTreeSet::from([opened.keyslot]);

        if let (Some(seal), Some(tpm)) = (&request.seal, tpm) {
            let (made, warning) = NewSeal::new(seal, tpm)?;
            enrolled.warnings.extend(warning);
            let keyslot = made.add_keyslot(&mut metadata, &opened.key)?;
            let snapshot = metadata.snapshot(&target, request.flags)?;
            let token = made.add_token(&mut metadata, &snapshot, keyslot, &opened.key, request.sign)?;
            let after = metadata.snapshot(&target, request.flags)?;
            let unsealed = made.try_token(&after, &metadata.bytes()?, token, request.sign, tpm)?;
            let slot = made.describe((keyslot, token), request.sign, unsealed);
            proven.extend(unsealed.then_some(keyslot));
            enrolled.sealed = Some(slot);
        }
        let made = match &request.broker {
            Some(broker) => {
                let (made, slot) = add_broker(&mut metadata, &target, request, broker, &opened)?;
                enrolled.warnings.extend(broker.judge());
                proven.insert(slot.keyslot);
                enrolled.kbs = Some(slot);
                Some(made)
            }
            None => None,
        };
        let recovery = request.recovery.then(|| add_recovery(&mut metadata, &target, request, &opened));
        let recovery = recovery.transpose()?.map(|(key, keyslot)| {
            enrolled.recovery_keyslot = Some(keyslot);
            proven.insert(keyslot);
            key
        });
        enrolled.wiped = take_away(&mut metadata, &target, request, &before, proven)?;
        // The last step that can be refused, and the first that is permanent.
        if let (Some(made), Some(slot)) = (made, &enrolled.kbs) {
            made.write_document(&slot.document)?;
        }
        Ok(Self { enrolled, recovery, target, metadata })
    }

    /// Writes the change to the volume.
    ///
    /// # Errors
    /// The volume's.
    pub fn commit(&self) -> Result<(), Error> {
        let written = self.metadata.write_back(&self.target);
        Ok(written.inspect_err(|_| self.give_up())?)
    }

    /// Tells what to do with a key document if the change is not written.
    pub fn give_up(&self) {
        if let Some(slot) = &self.enrolled.kbs {
            log::error!(
                "{} is of no use, unless `cvm-unlock inspect` shows its token, {}, on the volume",
                slot.document.display(),
                slot.token
            );
        }
    }
}

/// Adds a key for a key broker with its token, and tries both.
fn add_broker(
    metadata: &mut Metadata,
    target: &Target,
    request: &Request<'_>,
    broker: &Broker,
    opened: &Opened,
) -> Result<(broker_key::NewBrokerKey, BrokerSlot), Error> {
    let made = broker_key::NewBrokerKey::new(&opened.key)?;
    let keyslot = made.add_keyslot(metadata, &opened.key)?;
    let snapshot = metadata.snapshot(target, request.flags)?;
    let slot = made.add_token(metadata, &snapshot, keyslot, &opened.key, (broker, request.sign))?;
    let after = metadata.snapshot(target, request.flags)?;
    made.try_token(&after, &metadata.bytes()?, slot.token, request.sign)?;
    Ok((made, slot))
}

/// Adds a recovery key with its token, and opens its keyslot once.
fn add_recovery(
    metadata: &mut Metadata,
    target: &Target,
    request: &Request<'_>,
    opened: &Opened,
) -> Result<(RecoveryKey, u32), Error> {
    let key = RecoveryKey::new().map_err(SealError::Random)?;
    let keyslot = metadata.add_keyslot(&opened.key, key.passphrase())?;
    metadata.add_token(&recovery::token(keyslot))?;
    let after = metadata.snapshot(target, request.flags)?;
    opens(&after, &metadata.bytes()?, keyslot, key.passphrase())
        .then_some(())
        .ok_or(SealError::Trial("the recovery key does not open its keyslot"))?;
    Ok((key, keyslot))
}

/// Removes the requested old keyslots, and the tokens that name no other keyslot.
fn take_away(
    metadata: &mut Metadata,
    target: &Target,
    request: &Request<'_>,
    before: &Snapshot,
    proven: BTreeSet<u32>,
) -> Result<BTreeSet<u32>, Error> {
    if request.wipe.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut slots = Slots {
        old: before.keyslots().keys().copied().collect(),
        tokens: before.tokens(),
        empty: BTreeSet::new(),
        proven,
    };
    if request.wipe.asks_for_empty() {
        slots.empty = opened_by_nothing(before, &metadata.bytes()?, &request.wipe)?;
    }
    let chosen = request.wipe.select(&slots)?;
    for (number, token) in before.tokens() {
        let mut named = wipe::keyslots(token).peekable();
        if named.peek().is_some() && named.all(|slot| chosen.contains(&slot)) {
            metadata.remove_token(*number)?;
        }
    }
    for keyslot in &chosen {
        metadata.remove_keyslot(before, *keyslot)?;
    }
    // A boot must still accept the remaining volume.
    metadata.snapshot(target, request.flags)?;
    Ok(chosen)
}

fn opens(snapshot: &Snapshot, bytes: &Vec<u8>, keyslot: u32, passphrase: &Secret) -> bool {
    snapshot
        .read_area(bytes, keyslot)
        .is_ok_and(|area| prove::open(&emit::canonical_header(snapshot, &area), passphrase, snapshot).is_ok())
}

/// The keyslots that the empty passphrase opens. One that cannot be tried is an error, unless it is wiped
/// whatever opens it.
fn opened_by_nothing(snapshot: &Snapshot, bytes: &Vec<u8>, wipe: &Wipe) -> Result<BTreeSet<u32>, Error> {
    let nothing = Secret::new(Vec::new());
    let mut opened = BTreeSet::new();
    for (number, entry) in snapshot.keyslots() {
        match entry.judge() {
            Err(_) if wipe.names(*number) => {}
            Err(source) => return Err(OpenError::PerhapsEmpty { keyslot: *number, source }.into()),
            Ok(_) if opens(snapshot, bytes, *number, &nothing) => {
                opened.insert(*number);
            }
            Ok(_) => {}
        }
    }
    Ok(opened)
}
