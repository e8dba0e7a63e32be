//! Progress on standard output. Scenarios run at once, so each line begins with the one that its thread works
//! on.

use std::cell::Cell;

thread_local! {
    static TOPIC: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Does the work. What this thread says meanwhile begins with `topic`.
pub fn about<T>(topic: &'static str, work: impl FnOnce() -> T) -> T {
    let before = TOPIC.replace(Some(topic));
    let result = work();
    TOPIC.set(before);
    result
}

/// Prints a line.
pub fn say(line: &str) {
    println!("{}", told(line));
}

fn told(line: &str) -> String {
    match TOPIC.get() {
        None => line.to_owned(),
        Some(topic) => format!("{topic}: {line}"),
    }
}

/// How much of a console is shown while the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// Nothing.
    Quiet,
    /// What a person who watches an unlock wants to see.
    Milestones,
    /// Every line.
    Everything,
}

impl Live {
    /// Whether this line of a console is shown.
    pub fn shows(self, text: &str) -> bool {
        let milestone = || !text.starts_with('[') || MILESTONES.iter().any(|word| text.contains(word));
        !text.is_empty() && (self == Self::Everything || self == Self::Milestones && milestone())
    }
}

/// Kernel messages that mark a step of the boot.
const MILESTONES: &[&str] = &[
    "Linux version",
    "Command line",
    "secureboot:",
    "tpm_crb",
    "Run /init",
    "systemd 2",
    " vda: ",
    "device-mapper:",
    "cvm-unlock",
    "EXT4-fs",
    "Switching root",
    "Power down",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_own_threads_scenario() {
        assert_eq!(told("x"), "x");
        about("one", || {
            assert_eq!(told("x"), "one: x");
            let other = std::thread::spawn(|| about("two", || told("x")));
            assert_eq!(other.join().unwrap(), "two: x");
            about("inner", || assert_eq!(told("x"), "inner: x"));
            assert_eq!(told("x"), "one: x");
        });
        assert_eq!(told("x"), "x");
    }
}
