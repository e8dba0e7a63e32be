//! JSON values as they were spelt, and their strict form.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

/// A JSON value as it was spelt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number's text, whatever its range or precision.
    Number(String),
    /// A string with its escapes resolved; not always UTF-8.
    Text(Vec<u8>),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(BTreeMap<Vec<u8>, Json>),
}

impl Json {
    /// The same value in the form that all parsers read alike: 64-bit integers, UTF-8 strings without NUL.
    ///
    /// # Errors
    /// A number or a string is not in that form.
    pub fn strict(&self) -> Result<Value, JsonError> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(text) => integer(text).ok_or(JsonError::Number)?,
            Self::Text(bytes) => Value::String(strict_text(bytes)?),
            Self::Array(items) => Value::Array(items.iter().map(Self::strict).collect::<Result<_, _>>()?),
            Self::Object(members) => {
                let member = |(key, value): (&Vec<u8>, &Self)| Ok((strict_text(key)?, value.strict()?));
                Value::Object(members.iter().map(member).collect::<Result<_, JsonError>>()?)
            }
        })
    }

    /// The members of an object.
    #[must_use]
    pub const fn as_object(&self) -> Option<&BTreeMap<Vec<u8>, Self>> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }
}

/// Why JSON is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    /// The area does not end with a NUL.
    #[error("JSON area has no end")]
    NotTerminated,
    /// Something other than NULs follows the text.
    #[error("Bytes after the end of the JSON text")]
    Trailing,
    /// The first byte is not a brace.
    #[error("JSON area does not start with an object")]
    NotAnObject,
    /// Not JSON.
    #[error("JSON is malformed at byte {0}")]
    Syntax(usize),
    /// The same key twice in one object.
    #[error("JSON has the key {0:?} twice in one object")]
    DuplicateKey(String),
    /// A fraction, an exponent, minus zero, or an integer beyond 64 bits.
    #[error("JSON has a number that is not a 64-bit integer")]
    Number,
    /// A NUL in a key, or in a string that we use.
    #[error("JSON has a string with a NUL character")]
    Nul,
    /// A string that we use is not UTF-8.
    #[error("JSON has a string that is not UTF-8")]
    Encoding,
    /// Nested too deeply.
    #[error("JSON is nested more than {DEPTH_LIMIT} deep")]
    Depth,
    /// Too many values.
    #[error("JSON has more than {VALUE_LIMIT} values")]
    Size,
}

fn strict_text(bytes: &[u8]) -> Result<String, JsonError> {
    if bytes.contains(&0) {
        return Err(JsonError::Nul);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| JsonError::Encoding)
}

/// A 64-bit integer in its only strict form: no fraction, no exponent, no minus zero.
fn integer(text: &str) -> Option<Value> {
    let unsigned = text.parse::<u64>().map(Value::from).ok();
    let value = unsigned.or_else(|| text.parse::<i64>().map(Value::from).ok())?;
    let canonical = value.to_string();
    (canonical == text).then_some(value)
}

/// Levels, the outermost value included: json-c's own limit (`JSON_TOKENER_DEFAULT_DEPTH`), above which
/// cryptsetup does not read a header.
pub(super) const DEPTH_LIMIT: usize = 32;
/// 32 keyslots and tokens with their digests and segments need about 1,500; the rest is room for foreign
/// tokens.
pub(super) const VALUE_LIMIT: usize = 16_384;
