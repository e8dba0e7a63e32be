//! The newest distribution. From systemd 261 on, the initrd extends most PCRs with a separator before volumes
//! are unlocked, so a policy has to name the value of PCR 7 behind it.

use anyhow::{Result, ensure};

use crate::artefacts::suite::{Suite, separator};
use crate::encoding::hex;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::scenarios::attested::Fixture;
use crate::scenarios::demo;

/// Two boots: to a script as PID 1, then to systemd's multi-user.target.
///
/// # Errors
/// When the root is not reached, or the separator was not there before us.
pub fn run(lab: &Lab) -> Result<()> {
    let lab = lab.of(Suite::Sid);
    let outcome = demo::whole(&lab)?;
    outcome.explain(was_separated(&lab, &outcome))?;
    Ok(())
}

/// The fallback to a key broker, with its network.
///
/// # Errors
/// When the root is not reached, or not by the broker's key.
pub fn attested(lab: &Lab) -> Result<()> {
    let lab = lab.of(Suite::Sid);
    Fixture::new(&lab)?.fallback(&lab).map(drop)
}

/// By the TPM's log and by what tpm2-tools read in the real root.
fn was_separated(lab: &Lab, outcome: &Outcome) -> Result<()> {
    for index in SEPARATED {
        let extends = outcome.tpm()?.extends(index);
        ensure!(
            extends.last() == Some(&separator()),
            "PCR {index} does not end in the separator but in {:?}",
            extends.last().map(|digest| hex(digest))
        );
    }
    let (read, predicted) = (outcome.evidence()?.pcr("pcrs", 7)?, lab.pcr7()?);
    ensure!(read == predicted, "PCR 7 reads {read}, but {predicted} was predicted");
    Ok(())
}

/// systemd-pcrosseparator.service(8), systemd 262.
const SEPARATED: [u32; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14];
