//! Parses untrusted JSON without loss, into a tree in which every key is unique.
//!
//! The parser accepts RFC 8259 and what json-c, cryptsetup's library, writes beyond it: `1.`, `00.5`, `NaN`,
//! `Infinity`, and strings of any bytes. It refuses keys that two parsers could read differently: twice in
//! one object, or with a NUL, where C strings end. Values that we *use* must be stricter: [`Json::strict`].

mod parser;
mod value;

use serde_json::Value;

pub use value::{Json, JsonError};

/// Parses one JSON value in its strict form.
///
/// # Errors
/// As [`Json::parse`] and [`Json::strict`].
pub fn parse_json(text: &[u8]) -> Result<Value, JsonError> {
    Json::parse(text)?.strict()
}

#[cfg(test)]
mod tests;
