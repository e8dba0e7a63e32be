//! Signed policies of systemd-cryptenroll, alone and beside a PCR by value, open a root with the signature
//! that systemd-stub takes out of the UKI.

use anyhow::Result;

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::artefacts::owner::Trust;
use crate::artefacts::policy::Policy;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// PCR 11 signed; PCR 11 signed and PCR 7 by value.
///
/// # Errors
/// When one of them does not open the volume.
pub fn run(lab: &Lab) -> Result<()> {
    let key = lab.policy_key("ours")?;
    let uki = lab.image().trusting(Trust::Anybody).signed_by(&key).uki()?;
    let pcr7 = Policy::literal(format!("7:sha256={}", lab.pcr7()?));
    let both = lab.part("and-pcr-7");
    for (lab, policy) in [(lab, Policy::signed(&key)), (&both, pcr7.and_signed(&key))] {
        let enrolled = lab.enrolled_to(Enroller::Systemd, &policy, Userland::Script)?;
        let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
        let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?;
        outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?)?;
        disk.discard()?;
    }
    Ok(())
}
