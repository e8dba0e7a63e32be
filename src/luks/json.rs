//! Strict JSON: a header's JSON area comes in, a tree in which every key is unique goes out. The host wrote the bytes.
//!
//! `serde_json` is the tokeniser; what it would let pass is refused here: duplicate keys (two parsers would pick
//! different ones), fractions and exponents, NUL characters (C strings end there), and trees that are too deep or too
//! large.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

/// Parses a JSON area: an object that starts at the first byte, then NULs to the end, at least one.
///
/// # Errors
/// Anything else.
pub(super) fn parse_area(area: &[u8]) -> Result<Value, JsonError> {
    let end = area.iter().position(|byte| *byte == 0).ok_or(JsonError::NotTerminated)?;
    let (text, padding) = area.split_at(end);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(JsonError::Trailing);
    }
    if text.first() != Some(&b'{') {
        return Err(JsonError::NotAnObject);
    }
    parse(text)
}

/// Parses one JSON value and nothing behind it.
///
/// # Errors
/// See the module's description.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    let limits = Limits { nodes: Cell::new(NODE_LIMIT), fault: RefCell::new(None) };
    let mut tokens = serde_json::Deserializer::from_slice(text);
    let value = Strict { limits: &limits, depth: DEPTH_LIMIT }
        .deserialize(&mut tokens)
        .and_then(|value| tokens.end().map(|()| value));
    value.map_err(|error| {
        let fault = limits.fault.borrow_mut().take();
        fault.unwrap_or(JsonError::Syntax { line: error.line(), column: error.column() })
    })
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
    #[error("JSON is malformed at line {line}, column {column}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// The same key twice in one object.
    #[error("JSON has the key {0:?} twice in one object")]
    DuplicateKey(String),
    /// A fraction, an exponent, minus zero, or an integer beyond 64 bits.
    #[error("JSON has a number that is not a 64-bit integer")]
    Number,
    /// A NUL character inside a string or a key.
    #[error("JSON has a string with a NUL character")]
    Nul,
    /// Too many values inside values.
    #[error("JSON is nested more than {DEPTH_LIMIT} deep")]
    Depth,
    /// Too many values.
    #[error("JSON has more than {NODE_LIMIT} values")]
    Size,
}

struct Limits {
    /// Values that may still come.
    nodes: Cell<usize>,
    /// What we refused: serde's errors carry nothing but text.
    fault: RefCell<Option<JsonError>>,
}

impl Limits {
    fn refuse<E: serde::de::Error>(&self, fault: JsonError) -> E {
        let text = E::custom(&fault);
        self.fault.borrow_mut().get_or_insert(fault);
        text
    }

    fn text<E: serde::de::Error>(&self, text: &str) -> Result<String, E> {
        if text.contains('\0') { Err(self.refuse(JsonError::Nul)) } else { Ok(text.to_owned()) }
    }
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    limits: &'a Limits,
    /// Levels that may still be opened.
    depth: usize,
}

impl Strict<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| self.limits.refuse(JsonError::Depth))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, tokens: D) -> Result<Value, D::Error> {
        let left = self.limits.nodes.get().checked_sub(1);
        self.limits.nodes.set(left.ok_or_else(|| self.limits.refuse(JsonError::Size))?);
        tokens.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, _value: f64) -> Result<Value, E> {
        Err(self.limits.refuse(JsonError::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.limits.text(value).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let key = self.limits.text(&key)?;
            if object.contains_key(&key) {
                let fault = JsonError::DuplicateKey(super::error::excerpt(&key));
                return Err(self.limits.refuse(fault));
            }
            let value = members.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// LUKS2 needs 4 levels; a token may bring some of its own.
const DEPTH_LIMIT: usize = 16;
/// 32 keyslots and tokens, digests and segments need about 1,500; the rest is room for tokens of others.
const NODE_LIMIT: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }

    #[test]
    fn an_area_is_an_object_and_nuls() {
        assert_eq!(parse_area(&area(r#"{"a":[1,-2,"b",true,null]}"#)).unwrap()["a"][1], -2);
        assert_eq!(parse_area(b"{}"), Err(JsonError::NotTerminated));
        assert_eq!(parse_area(b"{}\0\0{\0"), Err(JsonError::Trailing));
        assert_eq!(parse_area(b" {}\0"), Err(JsonError::NotAnObject));
        assert_eq!(parse_area(b"\0\0"), Err(JsonError::NotAnObject));
        assert!(matches!(parse_area(b"{}{}\0"), Err(JsonError::Syntax { .. })));
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_depth() {
        let twice = |text: &str| parse(text.as_bytes()) == Err(JsonError::DuplicateKey("a".into()));
        assert!(twice(r#"{"a":1,"a":1}"#));
        assert!(twice(r#"{"b":{"c":[{"a":1,"d":2,"a":3}]}}"#));
        assert!(twice(r#"{"a":1,"\u0061":2}"#), "an escape spells the same key");
    }

    #[test]
    fn numbers_are_integers_of_64_bits() {
        for text in ["1.0", "1e3", "1E3", "-0", "18446744073709551616", "-9223372036854775809"] {
            assert_eq!(parse(text.as_bytes()), Err(JsonError::Number), "{text}");
        }
        for text in ["01", "+1", "0x1", "1.", "NaN", "--1"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(parse(b"18446744073709551615").unwrap(), u64::MAX);
    }

    #[test]
    fn a_nul_character_is_refused_in_strings_and_keys() {
        assert_eq!(parse(br#"{"a":"b\u0000c"}"#), Err(JsonError::Nul));
        assert_eq!(parse(br#"{"a\u0000":1}"#), Err(JsonError::Nul));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        assert!(parse(&nested(DEPTH_LIMIT)).is_ok());
        assert_eq!(parse(&nested(DEPTH_LIMIT + 1)), Err(JsonError::Depth));
        assert_eq!(parse(&nested(100_000)), Err(JsonError::Depth));
        let wide = |items: usize| format!("[{}]", vec!["0"; items].join(","));
        assert!(parse(wide(NODE_LIMIT - 1).as_bytes()).is_ok());
        assert_eq!(parse(wide(NODE_LIMIT).as_bytes()), Err(JsonError::Size));
    }

    #[test]
    fn what_is_not_utf_8_is_refused() {
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse(br#""\ud800""#).is_err());
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[^\0]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("[^\0]{0,8}", inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_writes_is_read_unchanged(value in tree()) {
            prop_assert_eq!(parse(&serde_json::to_vec(&value).unwrap()).unwrap(), value);
        }

        #[test]
        fn any_bytes_give_an_answer_that_serde_json_confirms(text in "[\\[\\]{}\",:a0-9.e\\\\u -]{0,40}") {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            }
        }
    }
}
