//! A TPM in memory for tests: its PCRs extend, its objects unseal when their policy holds, and it fails on
//! demand.

use std::collections::BTreeMap;

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::{Banks, Tpm, TpmError, Verb};
use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::base::secret::Secret;
use crate::format::tpm2::attestation_key::AttestationKey;
use crate::format::tpm2::blob::Sealed;
use crate::format::tpm2::parent::Parent;
use crate::format::tpm2::quote::Quote;
use crate::format::tpm2::srk::Srk;
use crate::format::tpm2::step::PolicyStep;
use crate::format::tpm2::template;
use crate::format::tpm2::{policy_authorize, policy_pcr};

/// The fake TPM; a test may set every field.
pub(crate) struct FakeTpm {
    pub(crate) banks: Banks,
    pub(crate) pcrs: BTreeMap<(Bank, Pcr), Vec<u8>>,
    /// Return codes with which the next commands fail, by verb.
    pub(crate) failures: Vec<(Verb, u32)>,
    pub(crate) log: Vec<Verb>,
    secrets: Vec<(Vec<u8>, Vec<u8>)>,
}

impl FakeTpm {
    /// All PCRs zero in `banks`.
    pub(crate) fn new(banks: &[Bank]) -> Self {
        let mut pcrs = BTreeMap::new();
        for bank in banks {
            pcrs.extend((0..24).filter_map(Pcr::new).map(|pcr| ((*bank, pcr), vec![0; bank.digest_size()])));
        }
        Self {
            pcrs,
            banks: Banks { active: banks.to_vec(), ..Banks::default() },
            failures: Vec::new(),
            log: Vec::new(),
            secrets: Vec::new(),
        }
    }

    pub(crate) fn pcr(&self, bank: Bank, pcr: Pcr) -> &[u8] {
        self.pcrs.get(&(bank, pcr)).unwrap()
    }

    fn enter(&mut self, verb: Verb) -> Result<(), TpmError> {
        self.log.push(verb);
        match self.failures.iter().position(|(failing, _)| *failing == verb) {
            Some(position) => Err(TpmError::from_rc(verb, self.failures.remove(position).1)),
            None => Ok(()),
        }
    }

    fn values(&self, bank: Bank, mask: PcrMask) -> Result<PcrValues, TpmError> {
        let mut values = PcrValues::new(bank);
        for pcr in mask.iter() {
            let value = self.pcrs.get(&(bank, pcr)).ok_or(TpmError::PcrUnreadable { pcr, bank })?;
            values.insert(pcr, value.clone()).unwrap();
        }
        Ok(values)
    }
}

impl Tpm for FakeTpm {
    fn banks(&mut self) -> Result<Banks, TpmError> {
        self.enter(Verb::GetCapability)?;
        Ok(self.banks.clone())
    }

    fn read_pcrs(&mut self, selection: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError> {
        self.enter(Verb::PcrRead)?;
        selection.iter().map(|(bank, mask)| self.values(*bank, *mask)).collect()
    }

    fn read_everywhere(&mut self, pcr: Pcr, also: &[(Bank, PcrMask)]) -> Result<Vec<PcrValues>, TpmError> {
        self.enter(Verb::PcrRead)?;
        let banks = Bank::ALL.into_iter().filter(|bank| self.pcrs.contains_key(&(*bank, pcr)));
        let mask = |bank| {
            let also = also.iter().filter(|(other, _)| *other == bank).flat_map(|(_, mask)| mask.iter());
            also.chain([pcr]).collect()
        };
        banks.map(|bank| self.values(bank, mask(bank))).collect()
    }

    fn extend(&mut self, pcr: Pcr, digests: &[(Bank, Vec<u8>)]) -> Result<(), TpmError> {
        self.enter(Verb::PcrExtend)?;
        for (bank, digest) in digests {
            assert_eq!(digest.len(), bank.digest_size());
            let value = self.pcrs.get_mut(&(*bank, pcr)).unwrap();
            *value = hash(*bank, &[value.as_slice(), digest].concat());
        }
        Ok(())
    }

    fn unseal(
        &mut self,
        sealed: &Sealed,
        _parent: &Parent,
        steps: &[PolicyStep],
    ) -> Result<Secret, TpmError> {
        self.enter(Verb::Load)?;
        let mut policy = policy_pcr::EMPTY;
        for step in steps {
            match step {
                PolicyStep::Pcr(bank, mask) => {
                    self.enter(Verb::PolicyPcr)?;
                    policy = policy_pcr::extend(policy, &self.values(*bank, *mask)?);
                }
                PolicyStep::Authorize(authorization) => {
                    self.enter(Verb::PolicyAuthorize)?;
                    policy = policy_authorize::extend(policy, authorization).ok_or(TpmError::PcrChanged)?;
                }
            }
        }
        self.enter(Verb::Unseal)?;
        let secret = self.secrets.iter().find(|(private, _)| private == sealed.private());
        let (_, secret) = secret.ok_or(TpmError::ForeignTpm { rc: 0x1df })?;
        if policy == sealed.facts().auth_policy {
            Ok(Secret::copy_of(secret))
        } else {
            Err(TpmError::PcrMismatch)
        }
    }

    fn seal(
        &mut self,
        secret: &Secret,
        policy: &[u8; 32],
        _parent: Option<u32>,
    ) -> Result<(Sealed, Srk), TpmError> {
        self.enter(Verb::Create)?;
        let private = Sha256::digest([secret.expose(), policy].concat()).to_vec();
        let mut public = template::sealed_object(policy);
        public.truncate(public.len() - 2);
        public.extend_from_slice(&[0x00, 0x20]);
        public.extend_from_slice(&[0x77; 32]);
        self.secrets.push((private.clone(), secret.expose().to_vec()));
        let parent = template::Primary::Srk(crate::format::tpm2::template::PrimaryAlg::Ecc).public();
        Ok((Sealed::new(private, public, None).unwrap(), Srk::new(template::SRK_HANDLE, parent).unwrap()))
    }

    /// The fake cannot sign; quotes are tested with an emulator.
    fn attestation_key(&mut self) -> Result<AttestationKey, TpmError> {
        Err(TpmError::from_rc(Verb::CreatePrimary, 0x101))
    }

    fn quote(&mut self, _nonce: &[u8; 32], _bank: Bank, _mask: PcrMask) -> Result<Quote, TpmError> {
        Err(TpmError::from_rc(Verb::Quote, 0x101))
    }
}

fn hash(bank: Bank, bytes: &[u8]) -> Vec<u8> {
    match bank {
        Bank::Sha1 => Sha1::digest(bytes).to_vec(),
        Bank::Sha256 => Sha256::digest(bytes).to_vec(),
        Bank::Sha384 => Sha384::digest(bytes).to_vec(),
        Bank::Sha512 => Sha512::digest(bytes).to_vec(),
    }
}
