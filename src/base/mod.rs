//! What every floor stands on: values and formats without a subject of their own. Knows no stage, does no I/O but
//! reading from a [`source::Source`] and writing log lines.

pub mod bytes;
pub mod error;
pub mod hex;
pub mod json;
pub mod log;
pub mod pcr;
pub mod secret;
pub mod source;
pub mod text;
pub mod uuid;
pub mod warning;
