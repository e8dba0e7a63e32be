//! Typed access to the members of a JSON object, in LUKS2's encodings. Errors name the member's path. A
//! member that was never taken is an error.

use std::collections::{BTreeMap, BTreeSet};

use base64ct::{Base64, Encoding};
use serde_json::Value;

use super::error::HeaderError;
use crate::base::text::excerpt;

/// The members of one object that have not been taken yet.
pub(in crate::format) struct Members<'a> {
    path: String,
    rest: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Members<'a> {
    /// The members of `value`, which lies at `path`.
    pub(in crate::format) fn of(path: &str, value: &'a Value) -> Result<Self, HeaderError> {
        let object = value.as_object().ok_or_else(|| wrong(path.to_owned(), "is not an object"))?;
        let rest = object.iter().map(|(name, value)| (name.as_str(), value)).collect();
        Ok(Self { path: path.to_owned(), rest })
    }

    /// The path of the member `name`.
    pub(in crate::format) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a member that may be missing.
    pub(in crate::format) fn optional(&mut self, name: &str) -> Option<&'a Value> {
        self.rest.remove(name)
    }

    /// Whether the member exists and has not been taken yet.
    pub(in crate::format) fn has(&self, name: &str) -> bool {
        self.rest.contains_key(name)
    }

    /// The error of the member `name`.
    pub(in crate::format) fn wrong(&self, name: &str, problem: &'static str) -> HeaderError {
        wrong(self.at(name), problem)
    }

    /// Takes a member of any type.
    pub(in crate::format) fn value(&mut self, name: &str) -> Result<&'a Value, HeaderError> {
        self.optional(name).ok_or_else(|| self.wrong(name, "is missing"))
    }

    /// Takes an object.
    pub(in crate::format) fn object(&mut self, name: &str) -> Result<Members<'a>, HeaderError> {
        let value = self.value(name)?;
        Members::of(&self.at(name), value)
    }

    /// Takes a string.
    pub(in crate::format) fn text(&mut self, name: &str) -> Result<&'a str, HeaderError> {
        self.value(name)?.as_str().ok_or_else(|| self.wrong(name, "is not a string"))
    }

    /// Takes a JSON integer that fits in 32 bits, as for key sizes and costs.
    pub(in crate::format) fn number(&mut self, name: &str) -> Result<u32, HeaderError> {
        let number = self.value(name)?.as_u64().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.wrong(name, "is not an unsigned 32-bit number"))
    }

    /// Takes a string with a 64-bit decimal number, as for offsets and sizes.
    pub(in crate::format) fn decimal(&mut self, name: &str) -> Result<u64, HeaderError> {
        decimal(self.text(name)?).ok_or_else(|| self.wrong(name, "is not a canonical decimal string"))
    }

    /// Takes base64-encoded bytes.
    pub(in crate::format) fn base64(&mut self, name: &str) -> Result<Vec<u8>, HeaderError> {
        let text = self.text(name)?;
        Base64::decode_vec(text).map_err(|_| self.wrong(name, "is not base64"))
    }

    /// Takes an array of strings without repetition.
    pub(in crate::format) fn texts(&mut self, name: &str) -> Result<BTreeSet<&'a str>, HeaderError> {
        let items = self.value(name)?.as_array().ok_or_else(|| self.wrong(name, "is not an array"))?;
        let mut texts = BTreeSet::new();
        for item in items {
            let text = item.as_str().ok_or_else(|| self.wrong(name, "has an item that is not a string"))?;
            if !texts.insert(text) {
                return Err(self.wrong(name, "has the same item twice"));
            }
        }
        Ok(texts)
    }

    /// Takes an array of object numbers (strings).
    pub(in crate::format) fn ids(&mut self, name: &str) -> Result<BTreeSet<u32>, HeaderError> {
        let texts = self.texts(name)?;
        let ids: Option<_> = texts.into_iter().map(id).collect();
        ids.ok_or_else(|| self.wrong(name, "has an item that is not an object number"))
    }

    /// Takes all members as numbered objects.
    pub(in crate::format) fn numbered(self) -> Result<BTreeMap<u32, &'a Value>, HeaderError> {
        let entry = |(name, value)| {
            id(name).map(|id| (id, value)).ok_or_else(|| {
                wrong(format!("{}.{}", self.path, excerpt(name)), "is not an object number below 32")
            })
        };
        self.rest.iter().map(|(name, value)| (*name, *value)).map(entry).collect()
    }

    /// Checks that every member was taken.
    pub(in crate::format) fn finish(self) -> Result<(), HeaderError> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(name) => Err(wrong(self.at(&excerpt(name)), "is unknown")),
        }
    }
}

/// The error of the member at `at`.
pub(in crate::format) fn wrong(at: String, problem: &'static str) -> HeaderError {
    HeaderError::Member { at, problem }
}

/// A decimal number in its canonical form: no sign, no leading zero.
pub(in crate::format) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

/// An object number. Keyslots and tokens are numbered 0 to 31 (cryptsetup's `LUKS2_KEYSLOTS_MAX`,
/// `LUKS2_TOKENS_MAX`).
pub(in crate::format) fn id(text: &str) -> Option<u32> {
    decimal(text).and_then(|number| u32::try_from(number).ok()).filter(|number| *number < 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "0x1", "1.0", "18446744073709551616"] {
            assert_eq!(decimal(text), None, "{text}");
        }
        assert_eq!((id("31"), id("32")), (Some(31), None));
    }

    #[test]
    fn unknown_missing_and_mistyped_members_are_named() {
        let value = json!({"a": 1, "b": "x"});
        let mut members = Members::of("top", &value).unwrap();
        assert_eq!(members.text("a").unwrap_err().to_string(), "Metadata member top.a is not a string");
        assert_eq!(members.value("c").unwrap_err().to_string(), "Metadata member top.c is missing");
        assert_eq!(members.finish().unwrap_err().to_string(), "Metadata member top.b is unknown");
    }

    #[test]
    fn a_number_as_a_string_or_a_string_as_a_number_is_refused() {
        let value = json!({"a": "1", "b": 1});
        let mut members = Members::of("", &value).unwrap();
        assert!(members.number("a").is_err());
        assert!(members.decimal("b").is_err());
    }

    proptest! {
        #[test]
        fn every_number_has_its_text(number: u64) {
            prop_assert_eq!(decimal(&number.to_string()), Some(number));
        }
    }
}
