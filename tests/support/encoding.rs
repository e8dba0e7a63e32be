//! Hexadecimal digits and Base64, independent of the crate under test.

use base64ct::{Base64, Encoding};

/// The bytes in lower-case digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that these digits stand for.
pub fn from_hex(digits: &str) -> Vec<u8> {
    let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16).expect(digits)).unwrap();
    digits.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Base64 (RFC 4648, 4), padded.
pub fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// The bytes that this Base64 stands for.
pub fn from_base64(text: &str) -> Vec<u8> {
    Base64::decode_vec(text).unwrap()
}
