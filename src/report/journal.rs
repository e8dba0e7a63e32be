//! Writes one structured journal entry per run, with a stable `MESSAGE_ID` that operators can filter on.
//!
//! It is a datagram in journald's native protocol. Without journald (on a build host, in a container) there
//! is nothing to do.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::{Outcome, Report};

/// Sends the entry for `report`.
///
/// # Errors
/// The socket's. A missing journald is no error.
pub fn send(root: &Path, report: &Report) -> std::io::Result<()> {
    let socket = root.join("run/systemd/journal/socket");
    if !socket.exists() {
        return Ok(());
    }
    UnixDatagram::unbound()?.send_to(&entry(report), socket).map(|_sent| ())
}

/// The entry's bytes: `NAME=value` lines (systemd, "Native Journal Protocol"); no value holds a newline.
fn entry(report: &Report) -> Vec<u8> {
    let (id, priority, text) = match (&report.outcome, &report.failure) {
        (Outcome::Unlocked, _) => (MESSAGE_UNLOCKED, "6", "The root volume is unlocked".to_owned()),
        (Outcome::WouldUnlock | Outcome::PolicyHolds, _) => {
            (MESSAGE_DRY_RUN, "6", "The volume would unlock".to_owned())
        }
        (Outcome::Failed, failure) => {
            let message = failure.as_ref().map_or("unknown failure", |failure| failure.message.as_str());
            (MESSAGE_FAILED, "2", format!("The root volume was not unlocked: {message}"))
        }
    };
    let mut lines = vec![
        ("MESSAGE", text),
        ("MESSAGE_ID", id.to_owned()),
        ("PRIORITY", priority.to_owned()),
        ("SYSLOG_IDENTIFIER", "cvm-unlock".to_owned()),
    ];
    if let Some(failure) = &report.failure {
        lines.push(("CVM_UNLOCK_SLUG", failure.slug.clone()));
    }
    if let Some(uuid) = report.volume.as_ref().and_then(|volume| volume.luks_uuid.as_ref()) {
        lines.push(("CVM_UNLOCK_LUKS_UUID", uuid.clone()));
    }
    if report.outcome == Outcome::Unlocked {
        let attested = report.volume.as_ref().is_some_and(|volume| volume.attestation.is_some());
        lines.push(("CVM_UNLOCK_KEY_FROM", if attested { "key-broker" } else { "tpm" }.to_owned()));
    }
    let one_line = |(name, value): (&str, String)| format!("{name}={}\n", value.replace('\n', " "));
    lines.into_iter().map(one_line).collect::<String>().into_bytes()
}

/// `MESSAGE_ID` of an unlocked root volume.
pub const MESSAGE_UNLOCKED: &str = "d7a23933528b4ba19691c12b95deb5d8";
/// `MESSAGE_ID` of a failed unlock.
pub const MESSAGE_FAILED: &str = "a7ccc80032cd4cf09c06e6427e9327ae";
/// `MESSAGE_ID` of a dry run that would have unlocked.
pub const MESSAGE_DRY_RUN: &str = "8ce8789b93c046a1a91270a93493853c";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{FailureReport, VolumeReport};

    #[test]
    fn an_entry_is_one_line_per_field_whatever_the_message_holds() {
        let failure = FailureReport {
            slug: "pcr-mismatch".to_owned(),
            message: "first\nMESSAGE_ID=forged".to_owned(),
            hint: String::new(),
            exit_code: 77,
        };
        let text = String::from_utf8(entry(&Report { failure: Some(failure), ..Report::default() })).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("MESSAGE_ID=")).count(), 1);
        assert!(text.contains("CVM_UNLOCK_SLUG=pcr-mismatch\n"));
    }

    #[test]
    fn an_entry_says_who_gave_the_key() {
        let attestation = crate::report::AttestationReport {
            server: "https://kbs.example".to_owned(),
            pin: String::new(),
            protocol: "0.4.0".to_owned(),
            tee: "tpm".to_owned(),
            resource: None,
        };
        for (attestation, word) in [(None, "tpm"), (Some(attestation), "key-broker")] {
            let volume = VolumeReport { attestation, ..VolumeReport::default() };
            let report = Report { outcome: Outcome::Unlocked, volume: Some(volume), ..Report::default() };
            let text = String::from_utf8(entry(&report)).unwrap();
            assert!(text.contains(&format!("CVM_UNLOCK_KEY_FROM={word}\n")), "{text}");
        }
    }
}
