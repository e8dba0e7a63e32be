//! Prints results to standard output.

use std::io::Write;

use crate::base::error::{Error, failures};

/// Prints text; the exit code is 0. A reader that has gone away (a closed pipe) is no failure of ours.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn print(text: &str) -> Result<u8, Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(OutputError::Print(error).into()),
        _ => Ok(0),
    }
}

/// Prints a value as JSON; the exit code is 0.
///
/// # Errors
/// As for [`print()`].
pub(super) fn print_json<T: serde::Serialize>(value: &T) -> Result<u8, Error> {
    let text = serde_json::to_string_pretty(value).map_err(OutputError::Serialise)?;
    print(&format!("{text}\n"))
}

/// Why a result was not printed.
#[derive(Debug, thiserror::Error)]
enum OutputError {
    /// Standard output.
    #[error("Printing the result")]
    Print(#[source] std::io::Error),
    /// JSON.
    #[error("Serialising the result")]
    Serialise(#[source] serde_json::Error),
}

failures! { OutputError:
    Self::Print(_) | Self::Serialise(_) => "output-failed", Os, "";
}
