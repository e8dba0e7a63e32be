//! A volume that is sealed to a policy key opens with every UKI whose PCR 11 this key signed, without a new
//! enrolment, and with no other, even if the firmware accepts it.

use anyhow::Result;

use crate::artefacts::enrolled::{Enrolled, Enroller};
use crate::artefacts::filesystem::Userland;
use crate::artefacts::policy::Policy;
use crate::artefacts::uki::Uki;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// The UKI of the day of the enrolment, the next release, and one whose PCR 11 somebody else signed.
///
/// # Errors
/// When one of the first two does not open the volume, or the last does.
pub fn run(lab: &Lab) -> Result<()> {
    let ours = lab.policy_key("ours")?;
    let policy = Policy::literal(format!("7:sha256={}", lab.pcr7()?)).and_signed(&ours);
    let image = lab.image();
    let enrolled = lab.enrolled_to(Enroller::CvmUnlock, &policy, Userland::Script)?;

    boot(lab, &enrolled, &image.clone().signed_by(&ours).uki()?, |outcome| {
        outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?).map(drop)
    })?;
    let next = image.clone().appending("release=2").signed_by(&ours).uki()?;
    boot(&lab.part("next-release"), &enrolled, &next, |outcome| outcome.reached_real_root().map(drop))?;
    let others = lab.policy_key("others")?;
    boot(&lab.part("of-others"), &enrolled, &image.signed_by(&others).uki()?, |outcome| {
        outcome
            .powered_off_without_asking()?
            .refused_with("signature-missing")?
            .unsealed_nothing()?
            .fenced_after_failure()
            .map(drop)
    })
}

fn boot(lab: &Lab, enrolled: &Enrolled, uki: &Uki, judge: impl FnOnce(&Outcome) -> Result<()>) -> Result<()> {
    let disk = lab.disk(Some(uki), &Root::Encrypted(enrolled.clone()))?;
    judge(&lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?)?;
    disk.discard()
}
