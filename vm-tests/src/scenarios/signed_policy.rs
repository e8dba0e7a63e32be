//! A volume that is sealed to what a key signs opens with every UKI that this key signed, without a new
//! enrolment, and with no other: not even with one that the firmware accepts.

use anyhow::Result;

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::{Enrolled, Enroller};
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::outcome::Outcome;
use crate::policy::{Policy, PolicyKey};
use crate::uki::COMMAND_LINE;
use crate::volume::Userland;

/// The UKI of the day of the enrolment, the next release, and one whose PCR 11 somebody else signed.
///
/// # Errors
/// When one of the first two does not open the volume, or the last does.
pub fn run(lab: &Lab) -> Result<()> {
    let ours = lab.policy_key("ours")?;
    let policy = Policy::literal(format!("7:sha256={}", lab.pcr7()?)).and_signed(&ours);
    let enrolled = lab.enrolled_to(Enroller::CvmUnlock, &policy, Userland::Script)?;

    boot(lab, &enrolled, ("signed-policy", COMMAND_LINE, &ours), |outcome| {
        outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement(&lab.tools)?).map(drop)
    })?;
    let next = format!("{COMMAND_LINE} release=2");
    boot(lab, &enrolled, ("signed-policy-next-release", &next, &ours), |outcome| {
        outcome.reached_real_root().map(drop)
    })?;
    let others = lab.policy_key("others")?;
    boot(lab, &enrolled, ("signed-policy-of-others", COMMAND_LINE, &others), |outcome| {
        outcome
            .powered_off_without_asking()?
            .refused_with("signature-missing")?
            .unsealed_nothing()?
            .fenced_after_failure()
            .map(drop)
    })
}

fn boot(
    lab: &Lab,
    enrolled: &Enrolled,
    (name, command_line, signer): (&str, &str, &PolicyKey),
    judge: impl FnOnce(&Outcome) -> Result<()>,
) -> Result<()> {
    let initramfs = lab.initramfs(Unlocker::CvmUnlock, false)?;
    let uki = lab.signed_uki(&initramfs, command_line, signer)?;
    let disk = lab.disk(name, Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    judge(&Boot::new(lab, name)?.disk(&disk).tpm(enrolled.tpm()).run()?)?;
    disk.discard()
}
