//! `enroll`: a new key sealed to the TPM, one for a key broker, a recovery key, old keyslots away.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Common, UsageError, keys, print, print_json};
use crate::attest::ResourcePath;
use crate::base::error::Error;
use crate::base::pcr::{Bank, Pcr};
use crate::config::Config;
use crate::format::pcr_signature::Signatures;
use crate::policy::pcr_choice::{PcrChoice, PcrsError};
use crate::provision::Key;
use crate::provision::broker_key::{Broker, BrokerSlot};
use crate::provision::enroll::{Enrolled, Prepared, Request};
use crate::provision::recovery::RecoveryKey;
use crate::provision::seal::{Seal, SealedSlot, SignedPolicy};
use crate::provision::wipe::Wipe;
use crate::tpm::esapi::EsapiTpm;
use crate::tpm::{Device, Tpm};

/// Options of `enroll`.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) volume: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) unlock_tpm: bool,
    pub(super) pcrs: Option<PcrChoice>,
    pub(super) bank: Option<String>,
    pub(super) public_key: Option<PathBuf>,
    pub(super) public_key_pcrs: Option<PcrChoice>,
    pub(super) signature: Option<PathBuf>,
    pub(super) parent: Option<u32>,
    pub(super) private_db: bool,
    pub(super) sign_key: Option<PathBuf>,
    pub(super) kbs: Option<PathBuf>,
    pub(super) kbs_path: Option<ResourcePath>,
    pub(super) recovery: bool,
    pub(super) wipe: Wipe,
    pub(super) tpm: Device,
}

impl Options {
    /// What the command cannot do without.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        match self {
            Self { volume: None, .. } => Err(UsageError::Missing("a DEVICE or IMAGE")),
            Self { key_file: None, unlock_tpm: false, .. } => {
                Err(UsageError::Missing("--unlock-key-file=FILE or --unlock-tpm2"))
            }
            Self { key_file: Some(_), unlock_tpm: true, .. } => {
                Err(UsageError::Contradiction("--unlock-key-file=FILE and --unlock-tpm2"))
            }
            Self { pcrs: None, public_key: None, kbs: None, recovery: false, wipe, .. }
                if wipe.is_empty() =>
            {
                Err(UsageError::Missing("--tpm2-pcrs=PCRS, --kbs=FILE, --recovery-key or --wipe-slot=SLOTS"))
            }
            Self { kbs: None, kbs_path: Some(_), .. } => {
                Err(UsageError::Missing("--kbs=FILE for --kbs-path"))
            }
            Self { public_key: None, public_key_pcrs: Some(_), .. } => {
                Err(UsageError::Missing("--tpm2-public-key=FILE for signed PCRs"))
            }
            _ => Ok(()),
        }
    }

    fn seal(&self, root: &Path) -> Result<Option<Seal>, Error> {
        let pcrs = match (&self.pcrs, &self.public_key) {
            (None, None) => return Ok(None),
            (Some(pcrs), _) => pcrs.clone(),
            (None, Some(_)) => "".parse()?,
        };
        let pcrs = match &self.bank {
            None => pcrs,
            Some(bank) => in_bank(pcrs, bank)?,
        };
        let signed = self.public_key.as_deref().map(|path| self.signed(root, path)).transpose()?;
        Ok(Some(Seal { pcrs, signed, parent: self.parent, private_db: self.private_db }))
    }

    fn signed(&self, root: &Path, public_key: &Path) -> Result<SignedPolicy, Error> {
        let pcrs = match &self.public_key_pcrs {
            Some(pcrs) => pcrs.mask(),
            // systemd-cryptenroll's default: what a UKI's own signatures are about.
            None => Pcr::new(11).into_iter().collect(),
        };
        let signatures = keys::signatures(root, self.signature.as_deref())?;
        SignedPolicy::new(&keys::public_key(public_key)?, pcrs, signatures)
    }
}

pub(super) fn run(common: &Common, options: &Options) -> Result<u8, Error> {
    options.check()?;
    let volume = options.volume.as_deref().ok_or(UsageError::Missing("a DEVICE or IMAGE"))?;
    let seal = options.seal(&common.root)?;
    super::lock_memory();
    let config = Config::load(&common.root, common.config.as_deref())?;
    let owner = options.sign_key.as_deref().map(keys::signing_key).transpose()?;
    let passphrase = options.key_file.as_deref().map(keys::read).transpose()?;
    let signatures = match &passphrase {
        Some(_) => Signatures::default(),
        None => keys::signatures(&common.root, options.signature.as_deref())?,
    };
    let request = Request {
        volume,
        root: &common.root,
        key: passphrase.as_ref().map_or(Key::Tpm(&signatures), Key::Passphrase),
        seal,
        broker: options.kbs.clone().map(|document| Broker {
            document,
            path: options.kbs_path.clone(),
            template: config.kbs.as_ref().map(|kbs| kbs.resource.clone()),
        }),
        sign: owner.as_ref(),
        recovery: options.recovery,
        wipe: options.wipe.clone(),
        flags: &config.allow_luks_flags,
    };
    let needs_tpm = request.seal.is_some() || passphrase.is_none();
    let mut tpm = needs_tpm.then(|| EsapiTpm::open(&options.tpm)).transpose()?;
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

/// `--tpm2-seal-key-handle=`: hexadecimal with or without `0x`, as systemd-cryptenroll takes it.
pub(super) fn handle(text: &str) -> Result<u32, UsageError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::from_str_radix(digits, 16).map_err(|_| UsageError::Handle(text.to_owned()))
}

/// `--kbs-path=`.
pub(super) fn resource(text: &str) -> Result<ResourcePath, UsageError> {
    ResourcePath::parse(text).ok_or_else(|| UsageError::Resource(text.to_owned()))
}

/// `--tpm2-pcr-bank=`: for PCRs without an explicit value, which names its bank itself.
fn in_bank(pcrs: PcrChoice, bank: &str) -> Result<PcrChoice, PcrsError> {
    let wanted = Bank::from_name(bank).ok_or_else(|| PcrsError::Bank(bank.to_owned()))?;
    if wanted == pcrs.bank() {
        return Ok(pcrs);
    }
    if pcrs.mask() != pcrs.to_read() {
        return Err(PcrsError::MixedBanks);
    }
    if pcrs.mask().is_empty() {
        // Only PCR 15 will be bound by value; it is added in the bank of the choice.
        return format!("{}:{wanted}", Pcr::FENCE).parse();
    }
    let items: Vec<_> = pcrs.mask().iter().map(Pcr::number).map(|pcr| format!("{pcr}:{wanted}")).collect();
    items.join("+").parse()
}

fn show(common: &Common, enrolled: &Enrolled, recovery: Option<&RecoveryKey>) -> Result<u8, Error> {
    #[derive(serde::Serialize)]
    struct Shown<'a> {
        #[serde(flatten)]
        enrolled: &'a Enrolled,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovery_key: Option<&'a str>,
    }
    if common.json {
        return print_json(&Shown { enrolled, recovery_key: recovery.map(RecoveryKey::text) });
    }
    if let Some(recovery) = recovery {
        print("This recovery key opens the volume. It is shown once: write it down, keep it safe.\n\n    ")?;
        print(recovery.text())?;
        print("\n\n")?;
        if let Some(code) = recovery.qr_code() {
            print(&code)?;
        }
    }
    print(&text(enrolled))
}

fn text(enrolled: &Enrolled) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _infallible = writeln!(out, "{text}");
    };
    if let Some(slot) = &enrolled.sealed {
        sealed(enrolled, slot, &mut line);
    }
    if let Some(slot) = &enrolled.kbs {
        for_broker(enrolled, slot, &mut line);
    }
    if let Some(keyslot) = enrolled.recovery_keyslot {
        line(format_args!("Keyslot {keyslot} is opened by the recovery key."));
    }
    if !enrolled.wiped.is_empty() {
        let wiped: Vec<_> = enrolled.wiped.iter().map(u32::to_string).collect();
        line(format_args!("Wiped: keyslots {}.", wiped.join(", ")));
    }
    out
}

fn sealed(enrolled: &Enrolled, slot: &SealedSlot, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!(
        "{}: keyslot {} and token {} opened by the TPM when these PCRs of bank {} hold:",
        enrolled.volume.display(),
        slot.keyslot,
        slot.token,
        slot.bank
    ));
    for (pcr, value) in &slot.pcrs {
        line(format_args!("  {pcr:>2} = {value}"));
    }
    if !slot.signed_pcrs.is_empty() {
        let pcrs: Vec<_> = slot.signed_pcrs.iter().map(u8::to_string).collect();
        line(format_args!("  {} as the policy key signs", pcrs.join("+")));
    }
    match &slot.signer {
        Some(signer) => line(format_args!("Signed by the owner key {signer}.")),
        None => line(format_args!(
            "Not signed: it opens only where the configuration pins this volume's key, {}.",
            enrolled.volume_key
        )),
    }
    line(format_args!(
        "{}",
        if slot.unsealed_in_trial {
            "The TPM gave the secret back in a trial."
        } else {
            "The TPM is not in that state now, so a boot will be the first to unseal it."
        }
    ));
}

fn for_broker(enrolled: &Enrolled, slot: &BrokerSlot, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!(
        "{}: keyslot {} and token {} opened by what a key broker delivers.",
        enrolled.volume.display(),
        slot.keyslot,
        slot.token
    ));
    if let Some(signer) = &slot.signer {
        line(format_args!("Signed by the owner key {signer}."));
    }
    // Without a configuration, as docs/trustee has it.
    let usual = format!("default/disk/{}", enrolled.luks_uuid);
    let (resource, document) = (slot.resource.as_deref().unwrap_or(&usual), slot.document.display());
    line(format_args!("The key document is {document}: upload it before the next boot, then remove it:"));
    line(format_args!("  kbs-client ... set-resource --path {resource} --resource-file {document}"));
    if slot.resource.is_none() {
        line(format_args!("  (or another path, where the image's kbs.resource says so)"));
    }
}
