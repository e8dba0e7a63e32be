//! Sends the `log` crate's records to the kernel log inside an initramfs, and to standard error elsewhere.
//!
//! In the initramfs only the kernel log is certain to exist, and it reaches the console, the journal and
//! `dmesg` alike. A record is a single line with a syslog priority, cut to what the kernel keeps of one
//! record.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use ::log::{Level, LevelFilter, Log, Metadata, Record};

/// Installs the sink. Call it once, before anything else. `root` is the directory that stands for `/`.
pub fn install(root: &Path) {
    let in_initramfs = root.join("etc/initrd-release").exists();
    let kmsg =
        in_initramfs.then(|| OpenOptions::new().write(true).open(root.join("dev/kmsg")).ok()).flatten();
    let sink = kmsg.map_or(Sink::Stderr, Sink::Kmsg);
    // A second call can only come from a test; keep the first sink.
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
        // Libraries return what they log; our stages report it once, and better.
        metadata.target().starts_with("cvm_unlock")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        for line in text.lines() {
            let outcome = match self {
                // One write per record: the kernel turns each write into a record.
                Self::Kmsg(file) => (&*file).write_all(kernel_record(record.level(), line).as_bytes()),
                Self::Stderr => writeln!(std::io::stderr(), "cvm-unlock: {line}"),
            };
            // If the sink fails, there is nowhere else to report it.
            drop(outcome);
        }
    }

    fn flush(&self) {}
}

/// A line in the format of `/dev/kmsg`: `<priority>` with facility and level, then the text.
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

/// Facility 3, system daemons, shifted above the three bits of the severity (RFC 5424, table 1).
const FACILITY_DAEMON: u8 = 3 << 3;
/// The kernel cuts a record's text at 1024 bytes less its own prefix (`PRINTKRB_RECORD_MAX`); stay below
/// that.
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
