//! Encodes and decodes hexadecimal digits, as tokens, signature files and reports use for digests.

/// The bytes in lower-case digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes, from digits of either case; `None` for anything else.
#[must_use]
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode_vec(text)?.try_into().ok()
}

/// One byte for each pair of digits; `None` for anything else. Allocates half the size of `text`.
#[must_use]
pub fn decode_vec(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_digits_of_that_many_bytes_is_refused() {
        assert_eq!(decode("00fFA5"), Some([0x00, 0xff, 0xa5]));
        for text in ["", "0", "00ff", "00ffa", "00ffa5a5", "00ffg5", " 0ffa5", "00ff\u{e9}"] {
            assert_eq!(decode::<3>(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn encode_and_decode_are_inverse(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decode_vec(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_gives_an_answer(text in ".{0,40}") {
            if let Some(bytes) = decode_vec(&text) {
                prop_assert_eq!(encode(&bytes), text.to_lowercase());
            }
        }
    }
}
