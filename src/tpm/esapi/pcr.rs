//! PCRs of a real TPM: our masks and digests come in, the library's selections go to the TPM and back.

use std::collections::BTreeMap;

use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::PcrHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, Digest, DigestValues, PcrSelectionList, PcrSlot};

use super::{EsapiTpm, library};
use crate::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::tpm::Banks;
use crate::tpm::error::{TpmError, Verb};

impl EsapiTpm {
    pub(super) fn allocated_banks(&mut self) -> Result<Banks, TpmError> {
        let (answer, _) = self.call(Verb::GetCapability, None, |context| {
            context.get_capability(CapabilityType::AssignedPcr, 0, 1)
        })?;
        let CapabilityData::AssignedPcr(list) = answer else {
            return Err(odd("Reading the PCR banks"));
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

    /// A TPM answers with at most eight digests at once, and says which: ask until all are there.
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
            let wanted = selection_list(missing.iter().map(|(bank, mask)| (*bank, *mask)))?;
            let (_, answered, digests) =
                self.call(Verb::PcrRead, None, |context| context.pcr_read(wanted.clone()))?;
            let mut digests = digests.value().iter();
            for selection in answered.get_selections() {
                let bank = Bank::from_alg_id(u16::from(selection.hashing_algorithm()));
                for slot in selection.selected() {
                    let (Some(bank), Some(pcr), Some(digest)) = (bank, pcr_of(slot), digests.next()) else {
                        return Err(odd("Reading PCRs"));
                    };
                    let (Some(wanted), Some(values)) = (missing.get_mut(&bank), values.get_mut(&bank)) else {
                        return Err(odd("Reading PCRs"));
                    };
                    progress |= wanted.contains(pcr);
                    *wanted = wanted.iter().filter(|other| *other != pcr).collect();
                    values.insert(pcr, digest.as_bytes().to_vec()).ok_or_else(|| odd("Reading PCRs"))?;
                }
            }
            if !progress {
                return Err(TpmError::PcrUnreadable { pcr, bank });
            }
        }
        Ok(selection.iter().filter_map(|(bank, _)| values.get(bank).cloned()).collect())
    }

    /// A password session and no more: the digest is not secret, and PCR 15 has no authorisation.
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

fn odd(doing: &'static str) -> TpmError {
    TpmError::Library { doing, what: "the TPM's answer is not one to this question".to_owned() }
}
