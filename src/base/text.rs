//! Untrusted text, made fit for a log.

/// The beginning of an untrusted text: printable ASCII, at most 32 characters.
#[must_use]
pub fn excerpt(text: &str) -> String {
    text.chars().take(32).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
