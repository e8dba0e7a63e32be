//! Refuses choices of PCRs that protect nothing, and warns of those that protect less than they seem to.
//! Pure.

use crate::base::error::failures;
use crate::base::pcr::{Pcr, PcrMask};
use crate::base::warning::Warning;

/// Judges the PCRs of a policy, by value or by signature, without PCR 15. `private_db`: the operator asserts
/// that the Secure Boot keys are their own.
///
/// # Errors
/// `pcrs-none`, `pcr-replayable`.
pub fn judge(pcrs: PcrMask, private_db: bool) -> Result<Option<Warning>, Danger> {
    let has = |number| Pcr::new(number).is_some_and(|pcr| pcrs.contains(pcr));
    let vouched = has(BOOT_LOADER) || (has(SECURE_BOOT) && private_db);
    match () {
        () if pcrs.is_empty() => Err(Danger::None),
        () if has(UKI) && !vouched => Err(Danger::Replayable),
        () if !vouched => Ok(Some(Warning::new(
            "pcrs-weak",
            "No PCR of the choice tells which system booted: add 4, or 7 with --private-db",
        ))),
        () => Ok(None),
    }
}

/// Why a choice is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Danger {
    /// Only PCR 15 would be left.
    #[error("No PCR to seal to: every operating system that boots on this TPM could unseal the key")]
    None,
    /// PCR 11 alone, or with a PCR 7 that every commonly signed loader satisfies.
    #[error(
        "PCR 11 starts at zero and any operating system can extend it as this image does, so it proves nothing without \
         PCR 4, or PCR 7 where the Secure Boot keys are the owner's own"
    )]
    Replayable,
}

failures! { Danger:
    Self::None => "pcrs-none", Usage, "--tpm2-pcrs=uki is 4+7+11+12+13; --help tells more";
    Self::Replayable => "pcr-replayable", Usage,
        "Add PCR 4 (--tpm2-pcrs=uki does), or 7 and --private-db if only your own keys are in the Secure Boot db";
}

/// Boot loader code: here the UKI itself, measured by the firmware.
const BOOT_LOADER: u8 = 4;
/// Secure Boot policy: whose signatures the firmware accepts.
const SECURE_BOOT: u8 = 7;
/// The UKI's measurement of its own sections.
const UKI: u8 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(pcrs: &[u8]) -> PcrMask {
        pcrs.iter().filter_map(|pcr| Pcr::new(*pcr)).collect()
    }

    #[test]
    fn pcr_11_needs_somebody_who_vouches_for_the_system() {
        for (pcrs, private_db, judged) in [
            (&[][..], true, Err(Danger::None)),
            (&[11], true, Err(Danger::Replayable)),
            (&[11, 12], false, Err(Danger::Replayable)),
            (&[7, 11], false, Err(Danger::Replayable)),
            (&[7, 11], true, Ok(false)),
            (&[4, 11], false, Ok(false)),
            (&[4, 7, 11, 12, 13], false, Ok(false)),
            (&[7], true, Ok(false)),
            (&[7], false, Ok(true)),
            (&[0], false, Ok(true)),
        ] {
            let warned = judge(mask(pcrs), private_db).map(|warning| warning.is_some());
            assert_eq!(warned, judged, "{pcrs:?} {private_db}");
        }
    }
}
