//! JSON, parsed without loss: text of an untrusted header becomes a tree in which every key is unique.
//!
//! The parser takes what RFC 8259 allows and what json-c, cryptsetup's library, writes beyond it: `1.`, `NaN`,
//! `Infinity`, and strings of any bytes. Keys that two parsers could read differently (twice in one object, or with a
//! NUL, where C strings end) are refused everywhere. What is *used* has to be stricter: [`Json::strict`].

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
    /// A string without its escapes; not always UTF-8.
    Text(Vec<u8>),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(BTreeMap<Vec<u8>, Json>),
}

impl Json {
    /// Parses one value with nothing but white space around it.
    ///
    /// # Errors
    /// The text is malformed, has a key that two parsers could read differently, or exceeds a limit.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        let mut parser = Parser { text, at: 0, values_left: VALUE_LIMIT };
        let value = parser.value(DEPTH_LIMIT)?;
        parser.skip_space();
        if parser.at == text.len() { Ok(value) } else { Err(parser.malformed()) }
    }

    /// Parses a header's JSON area: an object that starts at the first byte, then NULs to the end, at least one.
    ///
    /// # Errors
    /// Anything else.
    pub(super) fn parse_area(area: &[u8]) -> Result<Self, JsonError> {
        let end = area.iter().position(|byte| *byte == 0).ok_or(JsonError::NotTerminated)?;
        let (text, padding) = area.split_at(end);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(JsonError::Trailing);
        }
        if text.first() != Some(&b'{') {
            return Err(JsonError::NotAnObject);
        }
        Self::parse(text)
    }

    /// The value in the form that all parsers read alike: 64-bit integers, UTF-8 strings without NUL.
    ///
    /// # Errors
    /// A number or a string has another form.
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

/// Parses one JSON value in its strict form.
///
/// # Errors
/// As [`Json::parse`] and [`Json::strict`].
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    Json::parse(text)?.strict()
}

/// Why bytes are not JSON that we accept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    /// The area has no NUL at its end.
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
    /// A NUL in a key, or in a string that is used.
    #[error("JSON has a string with a NUL character")]
    Nul,
    /// A string that is used is not UTF-8.
    #[error("JSON has a string that is not UTF-8")]
    Encoding,
    /// Too many values inside values.
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

/// A 64-bit integer in its only form: no fraction, no exponent, no minus zero.
fn integer(text: &str) -> Option<Value> {
    let unsigned = text.parse::<u64>().map(Value::from).ok();
    let value = unsigned.or_else(|| text.parse::<i64>().map(Value::from).ok())?;
    let canonical = value.to_string();
    (canonical == text).then_some(value)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    values_left: usize,
}

impl Parser<'_> {
    /// A value inside of which `depth` levels may still follow, itself included.
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        let inner = depth.checked_sub(1).ok_or(JsonError::Depth)?;
        self.values_left = self.values_left.checked_sub(1).ok_or(JsonError::Size)?;
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(inner),
            Some(b'[') => self.array(inner),
            Some(b'"') => self.text().map(Json::Text),
            _ => self.word().or_else(|| self.number()).ok_or_else(|| self.malformed()),
        }
    }

    fn object(&mut self, inner: usize) -> Result<Json, JsonError> {
        let mut members = BTreeMap::new();
        self.at = self.at.saturating_add(1);
        if self.closes(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_space();
            let key = self.text()?;
            if key.contains(&0) {
                return Err(JsonError::Nul);
            }
            if members.contains_key(&key) {
                return Err(JsonError::DuplicateKey(super::error::excerpt(&String::from_utf8_lossy(&key))));
            }
            self.skip_space();
            self.expect(b":")?;
            let value = self.value(inner)?;
            members.insert(key, value);
            if self.closes(b'}') {
                return Ok(Json::Object(members));
            }
            self.expect(b",")?;
        }
    }

    fn array(&mut self, inner: usize) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.at = self.at.saturating_add(1);
        if self.closes(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(inner)?);
            if self.closes(b']') {
                return Ok(Json::Array(items));
            }
            self.expect(b",")?;
        }
    }

    fn text(&mut self) -> Result<Vec<u8>, JsonError> {
        self.expect(b"\"")?;
        let mut text = Vec::new();
        loop {
            match self.next().ok_or_else(|| self.malformed())? {
                b'"' => return Ok(text),
                b'\\' => self.escape(&mut text)?,
                0..=0x1f => return Err(self.malformed()),
                byte => text.push(byte),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), JsonError> {
        text.push(match self.next() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.code_point().ok_or_else(|| self.malformed())?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.malformed()),
        });
        Ok(())
    }

    /// What follows `\u`: one UTF-16 unit, or two that belong together.
    fn code_point(&mut self) -> Option<char> {
        let first = self.unit()?;
        let mut units = vec![first];
        if matches!(first, 0xd800..=0xdbff) && self.take(b"\\u") {
            units.push(self.unit()?);
        }
        let mut characters = char::decode_utf16(units);
        let character = characters.next()?.ok()?;
        characters.next().is_none().then_some(character)
    }

    fn unit(&mut self) -> Option<u16> {
        let mut unit = 0_u16;
        for _ in 0..4 {
            let digit = char::from(self.next()?).to_digit(16)?;
            unit = unit.checked_mul(16)?.checked_add(u16::try_from(digit).ok()?)?;
        }
        Some(unit)
    }

    fn word(&mut self) -> Option<Json> {
        let number = |text: &str| Json::Number(text.to_owned());
        let words = [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
            ("NaN", number("NaN")),
            ("Infinity", number("Infinity")),
            ("-Infinity", number("-Infinity")),
        ];
        words.into_iter().find(|(word, _)| self.take(word.as_bytes())).map(|(_, value)| value)
    }

    /// `-`, digits without a leading zero, a fraction (whose digits json-c may omit), an exponent.
    fn number(&mut self) -> Option<Json> {
        let start = self.at;
        self.take(b"-");
        if !self.take(b"0") {
            self.digits()?;
        }
        if self.take(b".") {
            let _may_be_missing = self.digits();
        }
        if self.take(b"e") || self.take(b"E") {
            let _sign = self.take(b"+") || self.take(b"-");
            self.digits()?;
        }
        let text = self.text.get(start..self.at)?;
        std::str::from_utf8(text).ok().map(|text| Json::Number(text.to_owned()))
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at = self.at.saturating_add(1);
        }
        (self.at > start).then_some(())
    }

    fn closes(&mut self, bracket: u8) -> bool {
        self.skip_space();
        self.take(&[bracket])
    }

    fn expect(&mut self, token: &[u8]) -> Result<(), JsonError> {
        if self.take(token) { Ok(()) } else { Err(self.malformed()) }
    }

    fn take(&mut self, token: &[u8]) -> bool {
        let found = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(token));
        if found {
            self.at = self.at.saturating_add(token.len());
        }
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at = self.at.saturating_add(1);
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(byte)
    }

    const fn malformed(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }
}

/// Levels, the outermost value included: json-c's own limit (`JSON_TOKENER_DEFAULT_DEPTH`), beyond which cryptsetup
/// does not read a header.
const DEPTH_LIMIT: usize = 32;
/// 32 keyslots and tokens, digests and segments need about 1,500; the rest is room for tokens of others.
const VALUE_LIMIT: usize = 16_384;

#[cfg(test)]
mod tests;
