//! Values and encodings that every other module uses. Nothing here knows a stage, and nothing does I/O except
//! to read from a [`source::Source`] and to write log lines.

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
