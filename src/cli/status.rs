//! `status`: what this boot's unlock came to.

use std::fmt::Write;

use super::{Common, print, print_json};
use crate::error::Error;
use crate::report::{Outcome, Report};

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
            ("mapping", volume.mapping.clone()),
        ] {
            if let Some(value) = value {
                line(label, &value);
            }
        }
    }
    // A single one is the failure itself.
    for volume in report.refused_volumes.iter().skip(usize::from(report.failure.is_some())) {
        line("not ours", &format!("{}: {} [{}]", volume.device, volume.message, volume.slug));
    }
    for token in &report.refused_tokens {
        line("not opened", &format!("token {}: {} [{}]", token.token, token.message, token.slug));
        for pcr in &token.pcrs {
            line(&format!("PCR {}", pcr.pcr), &format!("enrolled {}", pcr.enrolled));
            line("", &format!("now      {}", pcr.now));
        }
    }
    if let Some(fence) = &report.fence {
        line(
            "fence",
            &format!("PCR {} extended with the {} in {}", fence.pcr, fence.measured, fence.banks.join(", ")),
        );
    }
    for warning in &report.warnings {
        line("warning", &format!("{} [{}]", warning.message, warning.slug));
    }
    for stage in &report.stages {
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
