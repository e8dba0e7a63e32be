//! What an enrolment came to, as text or JSON.

use std::fmt::Write;

use super::common::Common;
use super::output::{print, print_json};
use crate::base::error::Error;
use crate::provision::broker_key::BrokerSlot;
use crate::provision::enroll::Enrolled;
use crate::provision::recovery::RecoveryKey;
use crate::provision::seal::SealedSlot;

/// Prints it, with the recovery key if one was made.
pub(super) fn show(
    common: &Common,
    enrolled: &Enrolled,
    recovery: Option<&RecoveryKey>,
) -> Result<u8, Error> {
    #[derive(serde::Serialize)]
    struct Shown<'a> {
        #[serde(flatten)]
        enrolled: &'a Enrolled,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovery_key: Option<&'a str>,
    }
    if common.json {
        return print_json(&Shown { enrolled, recovery_key: recovery.map(RecoveryKey::text) });
    }
    if let Some(recovery) = recovery {
        print("This recovery key opens the volume. It is shown once: write it down, keep it safe.\n\n    ")?;
        print(recovery.text())?;
        print("\n\n")?;
        if let Some(code) = recovery.qr_code() {
            print(&code)?;
        }
    }
    print(&text(enrolled))
}

fn text(enrolled: &Enrolled) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _infallible = writeln!(out, "{text}");
    };
    if let Some(slot) = &enrolled.sealed {
        sealed(enrolled, slot, &mut line);
    }
    if let Some(slot) = &enrolled.kbs {
        for_broker(enrolled, slot, &mut line);
    }
    if let Some(keyslot) = enrolled.recovery_keyslot {
        line(format_args!("Keyslot {keyslot} is opened by the recovery key."));
    }
    if !enrolled.wiped.is_empty() {
        let wiped: Vec<_> = enrolled.wiped.iter().map(u32::to_string).collect();
        line(format_args!("Wiped: keyslots {}.", wiped.join(", ")));
    }
    out
}

fn sealed(enrolled: &Enrolled, slot: &SealedSlot, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!(
        "{}: keyslot {} and token {} opened by the TPM when these PCRs of bank {} hold:",
        enrolled.volume.display(),
        slot.keyslot,
        slot.token,
        slot.bank
    ));
    for (pcr, value) in &slot.pcrs {
        line(format_args!("  {pcr:>2} = {value}"));
    }
    if !slot.signed_pcrs.is_empty() {
        let pcrs: Vec<_> = slot.signed_pcrs.iter().map(u8::to_string).collect();
        line(format_args!("  {} as the policy key signs", pcrs.join("+")));
    }
    match &slot.signer {
        Some(signer) => line(format_args!("Signed by the owner key {signer}.")),
        None => line(format_args!(
            "Not signed: it opens only where the configuration pins this volume's key, {}.",
            enrolled.volume_key
        )),
    }
    line(format_args!(
        "{}",
        if slot.unsealed_in_trial {
            "The TPM gave the secret back in a trial."
        } else {
            "The TPM is not in that state now, so a boot will be the first to unseal it."
        }
    ));
}

fn for_broker(enrolled: &Enrolled, slot: &BrokerSlot, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!(
        "{}: keyslot {} and token {} opened by what a key broker delivers.",
        enrolled.volume.display(),
        slot.keyslot,
        slot.token
    ));
    if let Some(signer) = &slot.signer {
        line(format_args!("Signed by the owner key {signer}."));
    }
    // Without a configuration, as docs/trustee has it.
    let usual = format!("default/disk/{}", enrolled.luks_uuid);
    let (resource, document) = (slot.resource.as_deref().unwrap_or(&usual), slot.document.display());
    line(format_args!("The key document is {document}: upload it before the next boot, then remove it:"));
    line(format_args!("  kbs-client ... set-resource --path {resource} --resource-file {document}"));
    if slot.resource.is_none() {
        line(format_args!("  (or another path, where the image's kbs.resource says so)"));
    }
}
