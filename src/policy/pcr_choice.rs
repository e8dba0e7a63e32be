//! Parses the PCRs to seal to from the command line, in systemd's `--tpm2-pcrs=` syntax: a set of PCRs of one
//! bank, some with an explicit value.
//!
//! `7+11`, `7,11`, `secure-boot-policy+kernel-boot`, `7:sha384`, `7:sha256=HEX+11`, and the preset `uki`.

use std::collections::BTreeMap;
use std::str::FromStr;

use thiserror::Error;

use crate::base::error::failures;
use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};

/// PCRs of one bank, each with the TPM's present value or with an explicit one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrChoice {
    bank: Bank,
    pcrs: BTreeMap<Pcr, Option<Vec<u8>>>,
}

impl PcrChoice {
    /// The bank: SHA-256 unless the text names another.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// All PCRs chosen.
    #[must_use]
    pub fn mask(&self) -> PcrMask {
        self.pcrs.keys().copied().collect()
    }

    /// The PCRs without an explicit value, to read from the TPM.
    #[must_use]
    pub fn to_read(&self) -> PcrMask {
        self.pcrs.iter().filter(|(_, value)| value.is_none()).map(|(pcr, _)| *pcr).collect()
    }

    /// Adds `15 = zero`, which makes a sealed secret usable once per boot.
    ///
    /// # Errors
    /// The operator asked for another value of PCR 15.
    pub fn with_fence(mut self) -> Result<Self, PcrsError> {
        let zero = vec![0; self.bank.digest_size()];
        match self.pcrs.insert(Pcr::FENCE, Some(zero.clone())) {
            Some(Some(value)) if value != zero => Err(PcrsError::Fence),
            _ => Ok(self),
        }
    }

    /// The values to seal to: the explicit ones, and the others from `read`.
    ///
    /// # Errors
    /// `read` lacks one, or is of another bank.
    pub fn values(&self, read: &PcrValues) -> Result<PcrValues, PcrsError> {
        let mut values = PcrValues::new(self.bank);
        for (pcr, value) in &self.pcrs {
            let value = match value {
                Some(value) => value,
                None if read.bank() == self.bank => read.get(*pcr).ok_or(PcrsError::NotRead(*pcr))?,
                None => return Err(PcrsError::NotRead(*pcr)),
            };
            values.insert(*pcr, value.to_vec()).ok_or(PcrsError::NotRead(*pcr))?;
        }
        Ok(values)
    }
}

impl FromStr for PcrChoice {
    type Err = PcrsError;

    fn from_str(text: &str) -> Result<Self, PcrsError> {
        let text = if text == UKI_PRESET { UKI_PCRS } else { text };
        let mut bank = None;
        let mut pcrs = BTreeMap::new();
        for item in text.split(['+', ',']).filter(|_| !text.is_empty()) {
            let item = Item::parse(item)?;
            if let Some(named) = item.bank
                && *bank.get_or_insert(named) != named
            {
                return Err(PcrsError::MixedBanks);
            }
            if pcrs.insert(item.pcr, item.value).is_some() {
                return Err(PcrsError::Duplicate(item.pcr));
            }
        }
        let bank = bank.unwrap_or(Bank::Sha256);
        // A value requires a bank's name, so its size was checked against this bank.
        Ok(Self { bank, pcrs })
    }
}

/// One PCR of the list: `PCR[:BANK[=HEX]]`.
struct Item {
    pcr: Pcr,
    bank: Option<Bank>,
    value: Option<Vec<u8>>,
}

impl Item {
    fn parse(text: &str) -> Result<Self, PcrsError> {
        let (pcr, rest) = match text.split_once(':') {
            Some((pcr, rest)) => (pcr, Some(rest)),
            None => (text, None),
        };
        let pcr = pcr_of(pcr).ok_or_else(|| PcrsError::Pcr(pcr.to_owned()))?;
        let Some(rest) = rest else { return Ok(Self { pcr, bank: None, value: None }) };
        let (name, hex) = match rest.split_once('=') {
            Some((name, hex)) => (name, Some(hex)),
            None => (rest, None),
        };
        let bank = Bank::from_name(name).ok_or_else(|| PcrsError::Bank(name.to_owned()))?;
        let value = hex.map(|hex| value_of(hex, bank).ok_or(PcrsError::Value { pcr, bank })).transpose()?;
        Ok(Self { pcr, bank: Some(bank), value })
    }
}

fn pcr_of(text: &str) -> Option<Pcr> {
    let named = NAMES.iter().find(|(_, name)| *name == text).map(|(number, _)| *number);
    let number = match named {
        Some(number) => number,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
        None => return None,
    };
    Pcr::new(number)
}

fn value_of(hex: &str, bank: Bank) -> Option<Vec<u8>> {
    let hex = hex.strip_prefix("0x").unwrap_or(hex);
    if hex.len() != 2 * bank.digest_size() {
        return None;
    }
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Why a choice of PCRs is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PcrsError {
    /// Neither a number from 0 to 23 nor a name.
    #[error("PCR '{0}' is unknown")]
    Pcr(String),
    /// Not a bank.
    #[error("PCR bank '{0}' is unknown")]
    Bank(String),
    /// A value that is not hexadecimal digits of the right number.
    #[error("Value of PCR {pcr} is not a {bank} digest in hexadecimal digits")]
    Value {
        /// The PCR.
        pcr: Pcr,
        /// The bank that it was given for.
        bank: Bank,
    },
    /// PCRs of several banks; a policy holds PCRs of one.
    #[error("PCRs of different banks cannot be combined")]
    MixedBanks,
    /// The same PCR twice.
    #[error("PCR {0} is given twice")]
    Duplicate(Pcr),
    /// PCR 15 with another value than zero: nobody can unseal in a fenced boot.
    #[error("PCR 15 has to be zero: any other value is that of a boot whose root is already unlocked")]
    Fence,
    /// The TPM returned no value.
    #[error("Value of PCR {0} is neither given nor read")]
    NotRead(Pcr),
}

failures! { PcrsError:
    Self::Pcr(_)
    | Self::Bank(_)
    | Self::Value { .. }
    | Self::MixedBanks
    | Self::Duplicate(_) => "pcrs-syntax", Usage, "write for example 7+11, 7:sha256=HEX+11, or uki";
    Self::Fence => "pcr15-not-zero", Usage, "write for example 7+11, 7:sha256=HEX+11, or uki";
    Self::NotRead(_) => "pcr-unreadable", Unavailable, "";
}

/// The preset for an image that boots a UKI.
const UKI_PRESET: &str = "uki";
/// Boot loader code, Secure Boot policy, the UKI, its overrides and its extensions. PCR 11 alone proves
/// nothing, since any system can replay what the UKI extends.
const UKI_PCRS: &str = "4+7+11+12+13";

/// systemd's names, `src/shared/tpm2-util.c`, `tpm2_pcr_index_table`.
const NAMES: [(u8, &str); 17] = [
    (0, "platform-code"),
    (1, "platform-config"),
    (2, "external-code"),
    (3, "external-config"),
    (4, "boot-loader-code"),
    (5, "boot-loader-config"),
    (6, "host-platform"),
    (7, "secure-boot-policy"),
    (9, "kernel-initrd"),
    (10, "ima"),
    (11, "kernel-boot"),
    (12, "kernel-config"),
    (13, "sysexts"),
    (14, "shim-policy"),
    (15, "system-identity"),
    (16, "debug"),
    (23, "application-support"),
];

#[cfg(test)]
mod tests;
