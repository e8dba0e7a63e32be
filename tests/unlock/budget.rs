//! The commands that a dry run sends to the TPM, by kind of token: each by name, in order. A whole unlock
//! adds `GetCapability` and `PCR_Extend`, and the library probes a device with one `GetRandom`.

use crate::support::commands;
use crate::support::executable::{Run, option};
use crate::support::image::Image;
use crate::support::swtpm::Swtpm;
use crate::support::systemd::{Signer, boot, cryptenroll_252, dry_run};

/// Checks that `run` opens with exactly these commands (a list of words).
#[track_caller]
fn opens_by(tpm: &Swtpm, run: impl FnOnce() -> Run, commands: &str) {
    let before = tpm.commands().len();
    let run = run();
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let sent = commands::names(&tpm.commands().split_off(before));
    assert_eq!(sent, commands.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn a_literal_policy_takes_six_commands() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "4+7+11");
    opens_by(&tpm, || image.dry_run(&tpm), "PCR_Read Load StartAuthSession PolicyPCR Unseal FlushContext");
}

#[test]
fn a_literal_policy_below_the_primary_key_of_systemd_252_takes_two_more() {
    let (tpm, image, root) = (Swtpm::new(), Image::new(), tempfile::tempdir().unwrap());
    cryptenroll_252(&image, &tpm, &["--tpm2-pcrs=7"]);
    opens_by(
        &tpm,
        || dry_run(&image, &tpm, root.path(), &[]),
        "PCR_Read CreatePrimary Load StartAuthSession PolicyPCR Unseal FlushContext FlushContext",
    );
}

#[test]
fn a_signed_policy_with_literal_pcrs_takes_eleven() {
    let (tpm, image, signer) = (Swtpm::new(), Image::new(), Signer::new());
    let key = format!("--tpm2-public-key={}", signer.public().display());
    let sign = format!("--sign-key={}", image.owner_key().display());
    let enrolled = image.enroll_with(&tpm, &[&key, "--tpm2-pcrs=7", "--private-db", &sign]);
    assert_eq!(enrolled.code, 0, "{}", enrolled.stderr);
    let signature = signer.sign(&tpm, "kernel", "enter-initrd");
    boot(&tpm, "kernel", "enter-initrd");
    let named = format!("--tpm2-signature={}", signature.display());
    let config = format!("--config={}", image.config_file().display());
    let run = || image.run("unlock", &["--dry-run", &option(&tpm), &config, &named, "--json"]);
    opens_by(
        &tpm,
        run,
        "PCR_Read LoadExternal VerifySignature FlushContext
         Load StartAuthSession PolicyPCR PolicyAuthorize PolicyPCR Unseal FlushContext",
    );
}

/// Three objects must be loaded and flushed again: on `/dev/tpm0` there is no resource manager to do so.
#[test]
fn a_signed_policy_below_the_primary_key_of_systemd_252_takes_two_more() {
    for (literal, second) in [("", ""), ("7", "PolicyPCR")] {
        let (tpm, image, signer, root) =
            (Swtpm::new(), Image::new(), Signer::new(), tempfile::tempdir().unwrap());
        let (pcrs, key) =
            (format!("--tpm2-pcrs={literal}"), format!("--tpm2-public-key={}", signer.public().display()));
        cryptenroll_252(&image, &tpm, &[&pcrs, &key, "--tpm2-public-key-pcrs=11", "--tpm2-signature="]);
        let signature = signer.sign(&tpm, "kernel", "enter-initrd");
        boot(&tpm, "kernel", "enter-initrd");
        let named = format!("--tpm2-signature={}", signature.display());
        opens_by(
            &tpm,
            || dry_run(&image, &tpm, root.path(), &[&named]),
            &format!(
                "PCR_Read LoadExternal VerifySignature FlushContext CreatePrimary
                 Load StartAuthSession PolicyPCR PolicyAuthorize {second} Unseal FlushContext FlushContext"
            ),
        );
    }
}
