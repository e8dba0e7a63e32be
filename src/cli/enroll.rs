//! `enroll`: a new key sealed to the TPM, one for a key broker, a recovery key; old keyslots away.

use std::path::{Path, PathBuf};

use super::common::{Common, lock_memory};
use super::enrolled::show;
use super::given::Given;
use super::keys;
use super::options;
use super::usage::{Mistake, UsageError};
use crate::attest::ResourcePath;
use crate::base::error::Error;
use crate::base::pcr::{Bank, Pcr, PcrMask};
use crate::format::pcr_signature::Signatures;
use crate::policy::pcr_choice::{PcrChoice, PcrsError};
use crate::provision::Key;
use crate::provision::broker_key::Broker;
use crate::provision::enroll::{Prepared, Request};
use crate::provision::seal::{Seal, SignedPolicy};
use crate::provision::wipe::Wipe;
use crate::tpm::esapi::EsapiTpm;
use crate::tpm::{Device, Tpm};

/// A request to enrol: at least one of the things to add or to take away is there.
#[derive(Debug)]
pub(super) struct Enroll {
    volume: PathBuf,
    opener: Opener,
    sealing: Option<Sealing>,
    broker: Option<ForBroker>,
    sign_key: Option<PathBuf>,
    recovery: bool,
    wipe: Wipe,
    tpm: Device,
}

/// What opens the volume now.
#[derive(Debug)]
enum Opener {
    KeyFile(PathBuf),
    /// With signatures from this file, or from where systemd looks for them.
    Tpm {
        signature: Option<PathBuf>,
    },
}

/// A key to be sealed to the TPM.
#[derive(Debug)]
struct Sealing {
    pcrs: PcrChoice,
    signed: Option<SignedPcrs>,
    parent: Option<u32>,
    private_db: bool,
}

/// PCRs for which a key signs.
#[derive(Debug)]
struct SignedPcrs {
    public_key: PathBuf,
    pcrs: PcrMask,
    signature: Option<PathBuf>,
}

/// A key for a key broker.
#[derive(Debug)]
struct ForBroker {
    document: PathBuf,
    path: Option<ResourcePath>,
}

impl Enroll {
    pub(super) fn parse(given: &Given) -> Result<Self, UsageError> {
        let request = Self {
            volume: given.volume()?,
            opener: Opener::parse(given)?,
            sealing: Sealing::parse(given)?,
            broker: ForBroker::parse(given)?,
            sign_key: given.path(&options::SIGN_KEY),
            recovery: given.has(&options::RECOVERY_KEY),
            wipe: given.text(&options::WIPE_SLOT, |text| text.parse().ok())?.unwrap_or_default(),
            tpm: given.tpm()?,
        };
        let adds = request.sealing.is_some() || request.broker.is_some() || request.recovery;
        if adds || !request.wipe.is_empty() {
            Ok(request)
        } else {
            Err(given.refuse(Mistake::Missing(CHANGES)))
        }
    }
}

impl Opener {
    fn parse(given: &Given) -> Result<Self, UsageError> {
        match (given.path(&options::UNLOCK_KEY_FILE), given.has(&options::UNLOCK_TPM2)) {
            (Some(path), false) => Ok(Self::KeyFile(path)),
            (None, true) => Ok(Self::Tpm { signature: given.path(&options::TPM2_SIGNATURE) }),
            (Some(_), true) => {
                Err(given.refuse(Mistake::Contradiction("--unlock-key-file=FILE", "--unlock-tpm2")))
            }
            (None, false) => {
                Err(given.refuse(Mistake::Missing("One of --unlock-key-file=FILE and --unlock-tpm2")))
            }
        }
    }
}

impl Sealing {
    fn parse(given: &Given) -> Result<Option<Self>, UsageError> {
        let bad_bank = |error| given.refuse(Mistake::Bank(error));
        let bank = |name: &str| Bank::from_name(name).ok_or_else(|| PcrsError::Bank(name.to_owned()));
        let bank = given.text(&options::TPM2_PCR_BANK, |name| Some(bank(name)))?;
        let bank = bank.transpose().map_err(bad_bank)?;
        let parent = given.text(&options::TPM2_SEAL_KEY_HANDLE, handle)?;
        let signed = SignedPcrs::parse(given)?;
        let pcrs = match (given.pcrs(&options::TPM2_PCRS)?, &signed) {
            (None, None) => return Ok(None),
            (Some(pcrs), _) => pcrs,
            (None, Some(_)) => "".parse().map_err(bad_bank)?,
        };
        let pcrs = match bank {
            None => pcrs,
            Some(bank) => in_bank(pcrs, bank).map_err(bad_bank)?,
        };
        Ok(Some(Self { pcrs, signed, parent, private_db: given.has(&options::PRIVATE_DB) }))
    }

    /// Reads the files that it names.
    fn read(&self, root: &Path) -> Result<Seal, Error> {
        let signed = self.signed.as_ref().map(|signed| signed.read(root)).transpose()?;
        Ok(Seal { pcrs: self.pcrs.clone(), signed, parent: self.parent, private_db: self.private_db })
    }
}

impl SignedPcrs {
    fn parse(given: &Given) -> Result<Option<Self>, UsageError> {
        let pcrs = given.pcrs(&options::TPM2_PUBLIC_KEY_PCRS)?;
        let Some(public_key) = given.path(&options::TPM2_PUBLIC_KEY) else {
            return match pcrs {
                None => Ok(None),
                Some(_) => Err(given.refuse(Mistake::Missing("--tpm2-public-key=FILE for signed PCRs"))),
            };
        };
        // systemd-cryptenroll's default: what a UKI's own signatures are about.
        let pcrs = pcrs.map_or_else(|| Pcr::new(11).into_iter().collect(), |pcrs| pcrs.mask());
        Ok(Some(Self { public_key, pcrs, signature: given.path(&options::TPM2_SIGNATURE) }))
    }

    fn read(&self, root: &Path) -> Result<SignedPolicy, Error> {
        let signatures = keys::signatures(root, self.signature.as_deref())?;
        SignedPolicy::new(&keys::public_key(&self.public_key)?, self.pcrs, signatures)
    }
}

impl ForBroker {
    fn parse(given: &Given) -> Result<Option<Self>, UsageError> {
        match (given.path(&options::KBS), given.text(&options::KBS_PATH, ResourcePath::parse)?) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(given.refuse(Mistake::Missing("--kbs=FILE for --kbs-path"))),
            (Some(document), path) => Ok(Some(Self { document, path })),
        }
    }
}

pub(super) fn run(common: &Common, asked: &Enroll) -> Result<u8, Error> {
    let seal = asked.sealing.as_ref().map(|sealing| sealing.read(&common.root)).transpose()?;
    lock_memory();
    let config = common.configuration()?;
    let owner = asked.sign_key.as_deref().map(keys::signing_key).transpose()?;
    let (passphrase, signatures) = match &asked.opener {
        Opener::KeyFile(path) => (Some(keys::read(path)?), Signatures::default()),
        Opener::Tpm { signature } => (None, keys::signatures(&common.root, signature.as_deref())?),
    };
    let request = Request {
        volume: &asked.volume,
        root: &common.root,
        key: passphrase.as_ref().map_or(Key::Tpm(&signatures), Key::Passphrase),
        seal,
        broker: asked.broker.as_ref().map(|broker| Broker {
            document: broker.document.clone(),
            path: broker.path.clone(),
            template: config.kbs.as_ref().map(|kbs| kbs.resource.clone()),
        }),
        sign: owner.as_ref(),
        recovery: asked.recovery,
        wipe: asked.wipe.clone(),
        flags: &config.allow_luks_flags,
    };
    let needs_tpm = request.seal.is_some() || passphrase.is_none();
    let mut tpm = needs_tpm.then(|| EsapiTpm::open(&asked.tpm)).transpose()?;
    let tpm: Option<&mut dyn Tpm> = match &mut tpm {
        Some(tpm) => Some(tpm),
        None => None,
    };
    let prepared = Prepared::new(&request, tpm)?;
    for warning in &prepared.enrolled.warnings {
        log::warn!("{} [{}]", warning.message, warning.slug);
    }
    // A recovery key that nobody has seen must not become the only way in: it is shown first.
    match &prepared.recovery {
        Some(recovery) => {
            show(common, &prepared.enrolled, Some(recovery)).inspect_err(|_| prepared.give_up())?;
            prepared.commit()?;
            Ok(0)
        }
        None => {
            prepared.commit()?;
            show(common, &prepared.enrolled, None)
        }
    }
}

/// Hexadecimal with or without `0x`, as systemd-cryptenroll takes it.
fn handle(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// `--tpm2-pcr-bank=`: for PCRs without an explicit value, which names its bank itself.
fn in_bank(pcrs: PcrChoice, bank: Bank) -> Result<PcrChoice, PcrsError> {
    if bank == pcrs.bank() {
        return Ok(pcrs);
    }
    if pcrs.mask() != pcrs.to_read() {
        return Err(PcrsError::MixedBanks);
    }
    if pcrs.mask().is_empty() {
        // Only PCR 15 will be bound by value; it is added in the bank of the choice.
        return format!("{}:{bank}", Pcr::FENCE).parse();
    }
    let items: Vec<_> = pcrs.mask().iter().map(Pcr::number).map(|pcr| format!("{pcr}:{bank}")).collect();
    items.join("+").parse()
}

/// What an enrolment can be about.
const CHANGES: &str =
    "One of --tpm2-pcrs=PCRS, --tpm2-public-key=FILE, --kbs=FILE, --recovery-key and --wipe-slot=SLOTS";
