//! `status`: what this boot's unlock came to.

use std::fmt::Write;

use super::common::Common;
use super::output::{print, print_json};
use crate::base::error::Error;
use crate::report::{
    AttestationReport, AuthenticityReport, BindingReport, Outcome, PolicyReport, ProofReport, Report,
};

pub(super) fn run(common: &Common) -> Result<u8, Error> {
    let report = Report::read(&common.root)?;
    if common.json { print_json(&report) } else { print(&text(&report)) }
}

/// The report as a person reads it.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "{label:>12}: {value}");
    };
    line(
        "outcome",
        match report.outcome {
            Outcome::Unlocked => "the root volume is unlocked",
            Outcome::WouldUnlock => "the volume would unlock",
            Outcome::PolicyHolds => {
                "this boot is fenced; in the state in which it began, a token's policy holds"
            }
            Outcome::Failed => "failed",
        },
    );
    if let Some(failure) = &report.failure {
        line("failure", &format!("{} [{}]", failure.message, failure.slug));
        if !failure.hint.is_empty() {
            line("hint", &failure.hint);
        }
    }
    if let Some(volume) = &report.volume {
        line("device", &volume.device);
        for (label, value) in [
            ("LUKS UUID", volume.luks_uuid.clone()),
            ("partition", volume.partition_uuid.clone()),
            ("token", volume.token.map(|token| token.to_string())),
            ("keyslot", volume.keyslot.map(|keyslot| keyslot.to_string())),
            ("policy", volume.policy.as_ref().map(policy)),
            ("binding", volume.proof.as_ref().map(|proof| binding(proof).to_owned())),
            ("authenticity", volume.proof.as_ref().map(authenticity)),
            ("key broker", volume.attestation.as_ref().map(attestation)),
            ("mapping", volume.mapping.clone()),
        ] {
            if let Some(value) = value {
                line(label, &value);
            }
        }
    }
    // A single one is most often the failure itself.
    let told = match (&report.failure, report.refused_volumes.as_slice()) {
        (Some(failure), [only]) => only.slug == failure.slug,
        _ => false,
    };
    if !told {
        for volume in &report.refused_volumes {
            line("not ours", &format!("{}: {} [{}]", volume.device, volume.message, volume.slug));
        }
    }
    for token in &report.refused_tokens {
        line("not opened", &format!("token {}: {} [{}]", token.token, token.message, token.slug));
        for pcr in &token.pcrs {
            line(&format!("PCR {}", pcr.pcr), &format!("enrolled {}", pcr.enrolled));
            line("", &format!("now      {}", pcr.now));
        }
    }
    if let Some(fence) = &report.fence {
        // The fence of a failure does not say in which banks: in all that can be computed.
        let banks = if fence.banks.is_empty() { "all banks".to_owned() } else { fence.banks.join(", ") };
        line("fence", &format!("PCR {} extended with the {} in {banks}", fence.pcr, fence.measured));
    }
    for warning in &report.warnings {
        line("warning", &format!("{} [{}]", warning.message, warning.slug));
    }
    for stage in report.stages.iter() {
        line(
            "stage",
            &format!(
                "{:<9} {:>6}.{:01} ms",
                stage.stage,
                stage.microseconds / 1000,
                stage.microseconds % 1000 / 100
            ),
        );
    }
    out
}

fn policy(policy: &PolicyReport) -> String {
    let list = |pcrs: &[u8]| pcrs.iter().map(u8::to_string).collect::<Vec<_>>().join("+");
    let parts = [("by signature", &policy.signed_pcrs), ("by value", &policy.pcrs)];
    let named = parts.iter().filter(|(_, pcrs)| !pcrs.is_empty());
    let pcrs: Vec<_> = named.map(|(how, pcrs)| format!("PCRs {} {how}", list(pcrs))).collect();
    if pcrs.is_empty() { policy.kind.clone() } else { format!("{}: {}", policy.kind, pcrs.join(", ")) }
}

fn binding(proof: &ProofReport) -> &'static str {
    match proof.binding {
        BindingReport::Verified => "verified: the header is the one that was enrolled",
        BindingReport::Absent => "absent: nothing shows that the header is the one that was enrolled",
    }
}

fn authenticity(proof: &ProofReport) -> String {
    match proof.authenticity {
        AuthenticityReport::VolumeKeyPin => "the configuration pins the volume key".to_owned(),
        AuthenticityReport::OwnerSignature => {
            format!("signed by the owner's key {}", proof.owner_key.as_deref().unwrap_or_default())
        }
        AuthenticityReport::KeyBroker => "a key broker that the configuration pins has its key".to_owned(),
        AuthenticityReport::Absent => "absent: nothing shows who made the volume".to_owned(),
    }
}

fn attestation(attestation: &AttestationReport) -> String {
    let AttestationReport { server, pin, protocol, tee, resource } = attestation;
    let resource = resource.as_deref().unwrap_or_default();
    format!("{server} released {resource} to evidence {tee} (protocol {protocol}, recognised by {pin})")
}
