//! The machine's serial console, line by line, with the host's clock. The guest writes it: it is text to
//! search, and it is untrusted.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::progress::Live;

/// Lines of a console that may still grow.
#[derive(Debug, Clone, Default)]
pub struct Serial(Arc<Mutex<Vec<Line>>>);

impl From<&str> for Serial {
    /// A console that said this and is closed.
    fn from(text: &str) -> Self {
        let line = |text: &str| Line { at: Duration::ZERO, text: printable(text.as_bytes()) };
        Self(Arc::new(Mutex::new(text.lines().map(line).collect())))
    }
}

/// One line, without control characters.
#[derive(Debug, Clone)]
pub struct Line {
    /// Since the machine was switched on.
    pub at: Duration,
    /// The text.
    pub text: String,
}

impl Serial {
    /// Collects from `console` in a thread, which ends with the console.
    ///
    /// # Errors
    /// When the log file cannot be made.
    pub fn follow(
        console: impl Read + Send + 'static,
        log: &Path,
        live: Live,
    ) -> Result<(Self, JoinHandle<()>)> {
        let serial = Self::default();
        let lines = Arc::clone(&serial.0);
        let mut log = File::create(log)?;
        let started = Instant::now();
        let thread = spawn(move || {
            let mut console = BufReader::new(console);
            let mut raw = Vec::new();
            while console.read_until(b'\n', &mut raw).is_ok_and(|count| count > 0) {
                let line = Line { at: started.elapsed(), text: printable(&raw) };
                raw.clear();
                // The log is for people; the lines in memory are what counts.
                let _ = writeln!(log, "{:8.3} {}", line.at.as_secs_f64(), line.text);
                if live.shows(&line.text) {
                    println!("  {:6.1} | {}", line.at.as_secs_f64(), line.text);
                }
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok((serial, thread))
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When a line with `text` appeared first.
    pub fn time_of(&self, text: &str) -> Option<Duration> {
        self.lines().iter().find(|line| line.text.contains(text)).map(|line| line.at)
    }

    /// Whether a line with `text` appeared.
    pub fn says(&self, text: &str) -> bool {
        self.time_of(text).is_some()
    }

    /// The last lines, for an error message.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        let from = lines.len().saturating_sub(count);
        lines
            .iter()
            .skip(from)
            .map(|line| format!("    {:8.3} {}\n", line.at.as_secs_f64(), line.text))
            .collect()
    }
}

/// Drops terminal control sequences and everything else that is not text.
fn printable(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
                chars.next();
            }
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out
}
