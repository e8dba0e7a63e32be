//! The library's view of an emulated TPM, for tests that bypass the executable.

use cvm_unlock::base::error::Failure;
use cvm_unlock::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use cvm_unlock::base::secret::Secret;
use cvm_unlock::format::tpm2::blob::Sealed;
use cvm_unlock::format::tpm2::parent::Parent;
use cvm_unlock::format::tpm2::policy_pcr;
use cvm_unlock::format::tpm2::step::PolicyStep;
use cvm_unlock::tpm::esapi::EsapiTpm;
use cvm_unlock::tpm::{Tpm, TpmError};

use super::swtpm::Swtpm;

/// The secret that these tests seal.
pub const SECRET: &[u8] = b"thirty-two bytes of a secret ...";

/// The emulated TPM, opened by the library.
pub fn open(swtpm: &Swtpm) -> EsapiTpm {
    EsapiTpm::open(&swtpm.device().parse().unwrap()).unwrap()
}

pub fn mask(pcrs: &[u8]) -> PcrMask {
    pcrs.iter().map(|number| Pcr::new(*number).unwrap()).collect()
}

/// The present values of PCRs.
pub fn current(tpm: &mut EsapiTpm, bank: Bank, mask: PcrMask) -> PcrValues {
    tpm.read_pcrs(&[(bank, mask)]).unwrap().remove(0)
}

/// An object sealed to the present values of PCRs 7 and 15.
pub struct Enrolled {
    pub sealed: Sealed,
    pub parent: Parent,
    pub steps: Vec<PolicyStep>,
}

impl Enrolled {
    pub fn new(swtpm: &Swtpm, bank: Bank) -> Self {
        let mut tpm = open(swtpm);
        let mask = mask(&[7, 15]);
        let policy = policy_pcr::digest(&current(&mut tpm, bank, mask));
        let (sealed, srk) = tpm.seal(&Secret::copy_of(SECRET), &policy, None).unwrap();
        Self { sealed, parent: Parent::Persistent(srk), steps: vec![PolicyStep::Pcr(bank, mask)] }
    }

    pub fn unseal(&self, swtpm: &Swtpm) -> Result<Secret, TpmError> {
        open(swtpm).unseal(&self.sealed, &self.parent, &self.steps)
    }

    #[track_caller]
    pub fn opens(&self, swtpm: &Swtpm) {
        assert_eq!(self.unseal(swtpm).unwrap_or_else(|error| panic!("{error}")).expose(), SECRET);
        swtpm.holds_nothing();
    }

    #[track_caller]
    pub fn is_refused(&self, swtpm: &Swtpm, slug: &str) {
        match self.unseal(swtpm) {
            Ok(_) => panic!("unsealed"),
            Err(error) => assert_eq!(error.slug(), slug, "{error}"),
        }
        swtpm.holds_nothing();
    }
}
