//! PCR values available to this run, read from the TPM or recorded by an earlier one. The TPM is asked only
//! for unknown values, so each PCR is read once.

use std::collections::BTreeMap;

use super::{Tpm, TpmError};
use crate::base::pcr::{Bank, PcrMask, PcrValues};

/// Values of PCRs, by bank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings(BTreeMap<Bank, PcrValues>);

impl Readings {
    /// Adds values, replacing older ones.
    pub fn insert(&mut self, values: &PcrValues) {
        let known = self.0.entry(values.bank()).or_insert_with(|| PcrValues::new(values.bank()));
        for (pcr, value) in values.iter() {
            // Cannot fail: `values` is of the same bank, so this value has its size.
            let inserted = known.insert(pcr, value.to_vec());
            debug_assert!(inserted.is_some());
        }
    }

    /// The values of exactly `mask`, if all of them are known.
    #[must_use]
    pub fn get(&self, bank: Bank, mask: PcrMask) -> Option<PcrValues> {
        let mut values = PcrValues::new(bank);
        for pcr in mask.iter() {
            values.insert(pcr, self.0.get(&bank)?.get(pcr)?.to_vec())?;
        }
        Some(values)
    }

    /// Drops the values of `mask`, so that they are read again.
    pub fn forget(&mut self, bank: Bank, mask: PcrMask) {
        if let Some(known) = self.0.remove(&bank) {
            let mut kept = PcrValues::new(bank);
            for (pcr, value) in known.iter().filter(|(pcr, _)| !mask.contains(*pcr)) {
                let inserted = kept.insert(pcr, value.to_vec());
                debug_assert!(inserted.is_some());
            }
            self.0.insert(bank, kept);
        }
    }

    /// Reads those of `mask` that are not known yet from `tpm`.
    ///
    /// # Errors
    /// The TPM's.
    pub fn ensure(&mut self, tpm: &mut dyn Tpm, bank: Bank, mask: PcrMask) -> Result<(), TpmError> {
        let known = self.0.get(&bank).map_or(PcrMask::EMPTY, PcrValues::mask);
        let missing: PcrMask = mask.iter().filter(|pcr| !known.contains(*pcr)).collect();
        if !missing.is_empty() {
            tpm.read_pcrs(&[(bank, missing)])?.iter().for_each(|values| self.insert(values));
        }
        Ok(())
    }

    /// All values, by bank.
    pub fn iter(&self) -> impl Iterator<Item = &PcrValues> {
        self.0.values()
    }
}

impl FromIterator<PcrValues> for Readings {
    fn from_iter<I: IntoIterator<Item = PcrValues>>(values: I) -> Self {
        let mut readings = Self::default();
        values.into_iter().for_each(|values| readings.insert(&values));
        readings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pcr::Pcr;
    use crate::tpm::Verb;
    use crate::tpm::fake::FakeTpm;

    fn mask(pcrs: &[u8]) -> PcrMask {
        pcrs.iter().map(|number| Pcr::new(*number).unwrap()).collect()
    }

    #[test]
    fn each_pcr_is_read_once_and_only_when_it_is_needed() {
        let mut tpm = FakeTpm::new(&[Bank::Sha256]);
        let mut readings = Readings::default();
        assert_eq!(readings.get(Bank::Sha256, mask(&[7])), None);
        for (pcrs, commands) in
            [(vec![7, 11], 1), (vec![11], 1), (vec![], 1), (vec![7, 15], 2), (vec![15], 2)]
        {
            readings.ensure(&mut tpm, Bank::Sha256, mask(&pcrs)).unwrap();
            assert_eq!(tpm.log, vec![Verb::PcrRead; commands], "{pcrs:?}");
            assert_eq!(readings.get(Bank::Sha256, mask(&pcrs)).unwrap().mask(), mask(&pcrs));
        }
        readings.forget(Bank::Sha256, mask(&[11]));
        assert_eq!(readings.get(Bank::Sha256, mask(&[11])), None);
        assert!(readings.get(Bank::Sha256, mask(&[7, 15])).is_some());
        assert_eq!(readings.get(Bank::Sha256, mask(&[7, 8])), None);
        assert_eq!(readings.get(Bank::Sha1, mask(&[7])), None);
    }
}
