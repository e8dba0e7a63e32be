//! The sink of the `log` crate: the kernel log inside an initramfs, standard error elsewhere.
//!
//! In the initramfs nothing else is certain to exist, and the kernel log reaches the console, the journal and
//! `dmesg` alike. Records are single lines with a syslog priority, capped to what the kernel keeps of one record.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use ::log::{Level, LevelFilter, Log, Metadata, Record};

/// Installs the sink; to be called once, first thing. `root` is the directory that stands for `/`.
pub fn install(root: &Path) {
    let in_initramfs = root.join("etc/initrd-release").exists();
    let kmsg =
        in_initramfs.then(|| OpenOptions::new().write(true).open(root.join("dev/kmsg")).ok()).flatten();
    let sink = kmsg.map_or(Sink::Stderr, Sink::Kmsg);
    // A second call can only come from a test; the first sink stays.
    if ::log::set_boxed_logger(Box::new(sink)).is_ok() {
        ::log::set_max_level(LevelFilter::Info);
    }
}

enum Sink {
    Kmsg(File),
    Stderr,
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries log what they also return; our stages say it once, and better.
        metadata.target().starts_with("cvm_unlock")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        for line in text.lines() {
            let outcome = match self {
                // One write per record: the kernel takes each write as one.
                Self::Kmsg(file) => (&*file).write_all(kernel_record(record.level(), line).as_bytes()),
                Self::Stderr => writeln!(std::io::stderr(), "cvm-unlock: {line}"),
            };
            // There is no second place to report to that a sink has failed.
            drop(outcome);
        }
    }

    fn flush(&self) {}
}

/// A line as `/dev/kmsg` wants it: `<priority>` with facility and level, then the text.
fn kernel_record(level: Level, line: &str) -> String {
    let mut end = line.len().min(MAX_LINE);
    while !line.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let shown = line.get(..end).unwrap_or_default();
    format!("<{}>cvm-unlock: {shown}\n", FACILITY_DAEMON | syslog_level(level))
}

/// Syslog severity (RFC 5424, table 2).
const fn syslog_level(level: Level) -> u8 {
    match level {
        Level::Error => 2,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Facility 3, system daemons, in its place above the three bits of the severity (RFC 5424, table 1).
const FACILITY_DAEMON: u8 = 3 << 3;
/// The kernel cuts a record's text at 1024 bytes less its own prefix (`PRINTKRB_RECORD_MAX`); stay below.
const MAX_LINE: usize = 900;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_critical_and_a_stage_is_informational() {
        assert_eq!(kernel_record(Level::Error, "no"), "<26>cvm-unlock: no\n");
        assert_eq!(kernel_record(Level::Info, "yes"), "<30>cvm-unlock: yes\n");
    }

    #[test]
    fn a_long_record_is_cut_between_characters() {
        let record = kernel_record(Level::Info, &"ä".repeat(1000));
        assert!(record.len() <= 1000 && record.ends_with("ä\n"));
        let record = kernel_record(Level::Info, &format!("x{}", "ä".repeat(1000)));
        assert!(record.len() <= 1000 && record.ends_with("ä\n"));
    }
}
