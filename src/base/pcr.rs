//! PCR banks, sets of PCRs and PCR values, as tokens, policies, the TPM and the fence share them.

use std::collections::BTreeMap;
use std::fmt;

/// A PCR bank, named by the hash algorithm that extends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bank {
    /// SHA-1: we read and fence it where it is active, but never seal to it.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Bank {
    /// All banks that we support, weakest first.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// Digest size in bytes.
    #[must_use]
    pub const fn digest_size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// `TPM_ALG_ID` (TCG Algorithm Registry, table 3).
    #[must_use]
    pub const fn alg_id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The bank of a `TPM_ALG_ID`; `None` for an algorithm that we do not support as a bank.
    #[must_use]
    pub fn from_alg_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.alg_id() == id)
    }

    /// The bank by its name in tokens and command lines (`sha256`), in either case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.name().eq_ignore_ascii_case(name))
    }

    /// Lower-case name, as in sysfs, tokens and command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A PCR's number, 0 to 23 (TCG PC Client Platform TPM Profile 4.6: 24 PCRs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pcr(u8);

impl Pcr {
    /// The fence: the PCR that systemd and we extend with the measurement of the volume key.
    pub const FENCE: Self = Self(15);

    /// A PCR by number; `None` above 23.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 24 { Some(Self(number)) } else { None }
    }

    /// The number, 0 to 23.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A set of PCRs of one bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PcrMask(u32);

impl PcrMask {
    /// No PCR.
    pub const EMPTY: Self = Self(0);

    /// Whether `pcr` is in the set.
    #[must_use]
    pub const fn contains(self, pcr: Pcr) -> bool {
        self.0 & (1 << pcr.0) != 0
    }

    /// The set with `pcr` in it.
    #[must_use]
    pub const fn with(self, pcr: Pcr) -> Self {
        Self(self.0 | (1 << pcr.0))
    }

    /// Whether no PCR is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The PCRs in ascending order, in which a TPM concatenates their values.
    pub fn iter(self) -> impl Iterator<Item = Pcr> {
        (0..24).filter_map(Pcr::new).filter(move |pcr| self.contains(*pcr))
    }

    /// The three octets of a `TPMS_PCR_SELECTION` (TPM 2.0 Part 2, 10.6.2): PCR 0 is bit 0 of the first.
    #[must_use]
    pub const fn octets(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }
}

impl FromIterator<Pcr> for PcrMask {
    fn from_iter<I: IntoIterator<Item = Pcr>>(pcrs: I) -> Self {
        pcrs.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for PcrMask {
    /// `7+11+15`, as systemd's tools write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, pcr) in self.iter().enumerate() {
            let plus = if position == 0 { "" } else { "+" };
            write!(f, "{plus}{pcr}")?;
        }
        Ok(())
    }
}

/// PCR values of one bank; each value has the bank's digest size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    bank: Bank,
    values: BTreeMap<Pcr, Vec<u8>>,
}

impl PcrValues {
    /// No values yet.
    #[must_use]
    pub fn new(bank: Bank) -> Self {
        Self { bank, values: BTreeMap::new() }
    }

    /// Adds a value. `None`, without adding it, if its size is not the bank's digest size.
    #[must_use]
    pub fn insert(&mut self, pcr: Pcr, value: Vec<u8>) -> Option<()> {
        (value.len() == self.bank.digest_size()).then(|| {
            self.values.insert(pcr, value);
        })
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The value of `pcr`, if it is known.
    #[must_use]
    pub fn get(&self, pcr: Pcr) -> Option<&[u8]> {
        self.values.get(&pcr).map(Vec::as_slice)
    }

    /// The PCRs whose values are known.
    #[must_use]
    pub fn mask(&self) -> PcrMask {
        self.values.keys().copied().collect()
    }

    /// The values in ascending order of PCRs.
    pub fn iter(&self) -> impl Iterator<Item = (Pcr, &[u8])> {
        self.values.iter().map(|(pcr, value)| (*pcr, value.as_slice()))
    }
}
