//! UUIDs of LUKS volumes, each with exactly one text form.

use std::fmt;

/// A UUID. Its text form is canonical: 36 characters, lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// A UUID from its bytes, in the order of the text form.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Parses the canonical text form (RFC 9562, 4); `None` for anything else, upper case and braces
    /// included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut digits = text.bytes();
        for (index, byte) in bytes.iter_mut().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) && digits.next()? != b'-' {
                return None;
            }
            *byte = digit(digits.next()?)? << 4 | digit(digits.next()?)?;
        }
        digits.next().is_none().then_some(Self(bytes))
    }

    /// The bytes in the order of the text form.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_text_is_a_uuid() {
        let text = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
        assert_eq!(Uuid::parse(text).unwrap().to_string(), text);
        let upper = text.to_uppercase();
        let spaced = format!("{text} ");
        for other in ["", &upper, &spaced, &text[1..], &text.replace('-', ""), &text.replace('-', "_")] {
            assert_eq!(Uuid::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn text_and_bytes_are_inverse(bytes: [u8; 16]) {
            prop_assert_eq!(Uuid::parse(&Uuid::new(bytes).to_string()), Some(Uuid::new(bytes)));
        }

        #[test]
        fn any_text_gives_an_answer(text in ".{0,40}") {
            if let Some(uuid) = Uuid::parse(&text) {
                prop_assert_eq!(uuid.to_string(), text);
            }
        }
    }
}
