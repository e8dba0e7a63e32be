//! Makes untrusted text fit for a log.

/// The beginning of an untrusted text: at most 32 characters, with `?` for all but printable ASCII.
#[must_use]
pub fn excerpt(text: &str) -> String {
    text.chars().take(32).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
