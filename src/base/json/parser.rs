//! Parses JSON by recursive descent over bytes, with limits on depth and on the number of values.

use std::collections::BTreeMap;

use super::value::{DEPTH_LIMIT, Json, JsonError, VALUE_LIMIT};
use crate::base::text::excerpt;

impl Json {
    /// Parses one value with nothing but white space around it.
    ///
    /// # Errors
    /// The text is malformed, has a key that two parsers could read differently, or exceeds a limit.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        Parser::new(text).document()
    }

    /// Parses a header's JSON area: an object that starts at the first byte, then NULs to the end, at least
    /// one.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse_area(area: &[u8]) -> Result<Self, JsonError> {
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
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    values_left: usize,
}

impl<'a> Parser<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, values_left: VALUE_LIMIT }
    }

    /// One value with nothing but white space around it.
    fn document(mut self) -> Result<Json, JsonError> {
        let value = self.value(DEPTH_LIMIT)?;
        self.skip_space();
        if self.at == self.text.len() { Ok(value) } else { Err(self.malformed()) }
    }

    /// A value. `depth` is the number of levels still allowed, this one included.
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
                return Err(JsonError::DuplicateKey(excerpt(&String::from_utf8_lossy(&key))));
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

    /// What follows `\u`: one UTF-16 unit, or a surrogate pair.
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

    /// `-`, digits, a fraction, an exponent. json-c keeps leading zeros, and omits the digits on either side
    /// of the point (not both), as in its input.
    fn number(&mut self) -> Option<Json> {
        let start = self.at;
        let negative = self.take(b"-");
        let whole = self.digits();
        let fraction = if self.take(b".") { self.digits() } else { None };
        whole.or(fraction.filter(|()| negative))?;
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
