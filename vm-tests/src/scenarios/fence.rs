//! The sealed secret can be used once per boot: tpm2-tools, in the same initrd and with the same commands,
//! unseal it before our unit runs, and the TPM refuses them afterwards.

use anyhow::{Result, ensure};

use crate::artefacts::filesystem::Userland;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// One boot, with scripts before and after our unit.
///
/// # Errors
/// When the first attempt fails, or the second succeeds.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().probed().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let (private, public) = enrolled.sealed_object()?;
    let unseal = UNSEAL.replace("PCRS", &enrolled.policy_pcrs()?);
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab
        .boot()?
        .disk(&disk)
        .tpm(enrolled.tpm())
        .file("private", private)
        .file("public", public)
        .file("before", unseal.replace("WHEN", "before"))
        .file("after", unseal.replace("WHEN", "after"))
        .run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?)?;
    outcome.explain(single_use(&outcome))?;
    disk.discard()
}

fn single_use(outcome: &Outcome) -> Result<()> {
    let evidence = outcome.evidence()?;
    ensure!(
        evidence.text("unseal-before")?.trim() == "0",
        "tpm2-tools could not unseal before the fence:\n{}",
        evidence.text("before.log")?
    );
    let log = evidence.text("after.log")?;
    ensure!(evidence.text("unseal-after")?.trim() != "0", "tpm2-tools unsealed after the fence");
    ensure!(log.contains(POLICY_FAIL), "The TPM gave another reason than its policy:\n{log}");
    ensure!(evidence.pcr("pcrs-before", 15)? == ZERO, "PCR 15 was not zero before the fence");
    ensure!(evidence.pcr("pcrs-after", 15)? == evidence.pcr("pcrs", 15)?, "PCR 15 changed after the fence");
    Ok(())
}

/// TPM_RC_POLICY_FAIL, session 1.
const POLICY_FAIL: &str = "Esys_Unseal(0x99D)";
const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The storage root key is at the handle that the TCG reserves for it.
const UNSEAL: &str = r#"in=/run/cvm-probe/in
tpm2_pcrread sha256 > pcrs-WHEN
(
    set -e
    tpm2_startauthsession --policy-session -S session
    tpm2_policypcr -S session -l sha256:PCRS
    tpm2_load -C 0x81000001 -u $in/public -r $in/private -c object
    tpm2_unseal -c object -p session:session > secret
)
echo $? > unseal-WHEN
tpm2_flushcontext session
rm -f secret session object
"#;
