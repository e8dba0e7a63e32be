//! Reads and extends PCRs of a real TPM, converting between our masks and the library's selections.

use std::collections::BTreeMap;

use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::PcrHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, Digest, DigestValues, PcrSelectionList, PcrSlot};

use super::{EsapiTpm, library};
use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::format::tpm2::rc::RcClass;
use crate::tpm::{Banks, TpmError, Verb};

impl EsapiTpm {
    pub(super) fn allocated_banks(&mut self) -> Result<Banks, TpmError> {
        let (answer, _) = self.call(Verb::GetCapability, None, |context| {
            context.get_capability(CapabilityType::AssignedPcr, 0, 1)
        })?;
        let CapabilityData::AssignedPcr(list) = answer else {
            return Err(odd());
        };
        let mut banks = Banks::default();
        for selection in list.get_selections().iter().filter(|selection| !selection.is_empty()) {
            let algorithm = u16::from(selection.hashing_algorithm());
            match Bank::from_alg_id(algorithm) {
                Some(bank) if selection.is_selected(PcrSlot::Slot15) => banks.active.push(bank),
                Some(bank) => banks.without_fence.push(bank),
                None => banks.unknown.push(algorithm),
            }
        }
        banks.active.sort_unstable();
        Ok(banks)
    }

    /// A TPM returns at most eight digests at once, and says which, so this asks until it has all.
    pub(super) fn pcr_values(&mut self, selection: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError> {
        let mut missing: BTreeMap<Bank, PcrMask> = BTreeMap::new();
        for (bank, mask) in selection {
            let wanted = missing.entry(*bank).or_default();
            *wanted = wanted.iter().chain(mask.iter()).collect();
        }
        let mut values: BTreeMap<Bank, PcrValues> =
            missing.keys().map(|bank| (*bank, PcrValues::new(*bank))).collect();
        while let Some((bank, pcr)) = first(&missing) {
            let mut progress = false;
            for (bank, pcr, value) in
                self.some_pcr_values(missing.iter().map(|(bank, mask)| (*bank, *mask)))?
            {
                let (Some(wanted), Some(values)) = (missing.get_mut(&bank), values.get_mut(&bank)) else {
                    return Err(odd());
                };
                progress |= wanted.contains(pcr);
                *wanted = wanted.iter().filter(|other| *other != pcr).collect();
                values.insert(pcr, value).ok_or_else(odd)?;
            }
            if !progress {
                return Err(TpmError::PcrUnreadable { pcr, bank });
            }
        }
        Ok(selection.iter().filter_map(|(bank, _)| values.get(bank).cloned()).collect())
    }

    /// A TPM omits banks that are not active, but refuses a selection with a bank that it does not implement.
    /// In that case this asks for its banks first.
    pub(super) fn pcr_everywhere(
        &mut self,
        pcr: Pcr,
        also: &[(Bank, PcrMask)],
    ) -> Result<Vec<PcrValues>, TpmError> {
        let wanted = |bank: Bank| {
            let more = also.iter().filter(|(other, _)| *other == bank).flat_map(|(_, mask)| mask.iter());
            (bank, more.chain([pcr]).collect())
        };
        let found = match self.some_pcr_values(Bank::ALL.into_iter().map(wanted)) {
            Err(TpmError::Refused { rc, .. }) if RcClass::of(rc) == RcClass::Unsupported => {
                let active = self.allocated_banks()?.active;
                self.some_pcr_values(active.into_iter().map(wanted))?
            }
            found => found?,
        };
        let mut values = BTreeMap::new();
        for (bank, found, value) in found {
            let values = values.entry(bank).or_insert_with(|| PcrValues::new(bank));
            values.insert(found, value).ok_or_else(odd)?;
        }
        Ok(values.into_values().collect())
    }

    /// Sends one command, and returns those of `wanted` that it yielded.
    fn some_pcr_values(
        &mut self,
        wanted: impl Iterator<Item = (Bank, PcrMask)>,
    ) -> Result<Vec<(Bank, Pcr, Vec<u8>)>, TpmError> {
        let wanted = selection_list(wanted)?;
        let (_, answered, digests) =
            self.call(Verb::PcrRead, None, |context| context.pcr_read(wanted.clone()))?;
        let mut digests = digests.value().iter();
        let mut found = Vec::new();
        for selection in answered.get_selections() {
            let bank = Bank::from_alg_id(u16::from(selection.hashing_algorithm()));
            for slot in selection.selected() {
                let (Some(bank), Some(pcr), Some(digest)) = (bank, pcr_of(slot), digests.next()) else {
                    return Err(odd());
                };
                found.push((bank, pcr, digest.as_bytes().to_vec()));
            }
        }
        Ok(found)
    }

    /// A password session is enough: the digest is not secret, and PCR 15 has no authorisation.
    pub(super) fn extend_pcr(&mut self, pcr: Pcr, digests: &[(Bank, Vec<u8>)]) -> Result<(), TpmError> {
        let mut values = DigestValues::new();
        for (bank, digest) in digests {
            let digest = Digest::from_bytes(digest).map_err(library("Extending a PCR"))?;
            values.set(algorithm(*bank), digest);
        }
        let handle = PcrHandle::try_from(u32::from(pcr.number())).map_err(library("Extending a PCR"))?;
        self.call(Verb::PcrExtend, Some(AuthSession::Password), |context| {
            context.pcr_extend(handle, values.clone())
        })
    }
}

/// The library's form of a selection.
pub(super) fn selection_list(
    selection: impl Iterator<Item = (Bank, PcrMask)>,
) -> Result<PcrSelectionList, TpmError> {
    let mut list = PcrSelectionList::builder();
    for (bank, mask) in selection.filter(|(_, mask)| !mask.is_empty()) {
        let slots: Result<Vec<PcrSlot>, _> = mask.iter().map(slot_of).collect();
        list = list.with_selection(algorithm(bank), &slots.map_err(library("Selecting PCRs"))?);
    }
    list.build().map_err(library("Selecting PCRs"))
}

const fn algorithm(bank: Bank) -> HashingAlgorithm {
    match bank {
        Bank::Sha1 => HashingAlgorithm::Sha1,
        Bank::Sha256 => HashingAlgorithm::Sha256,
        Bank::Sha384 => HashingAlgorithm::Sha384,
        Bank::Sha512 => HashingAlgorithm::Sha512,
    }
}

fn first(missing: &BTreeMap<Bank, PcrMask>) -> Option<(Bank, Pcr)> {
    missing.iter().find_map(|(bank, mask)| mask.iter().next().map(|pcr| (*bank, pcr)))
}

fn slot_of(pcr: Pcr) -> tss_esapi::Result<PcrSlot> {
    PcrSlot::try_from(1_u32 << pcr.number())
}

fn pcr_of(slot: PcrSlot) -> Option<Pcr> {
    u8::try_from(u32::from(slot).trailing_zeros()).ok().and_then(Pcr::new)
}

fn odd() -> TpmError {
    TpmError::Library {
        doing: "Reading PCRs",
        what: "the TPM's answer is not one to this question".to_owned(),
    }
}
