//! The ciphers and hashes that we accept in a header, as types: an allow-list.

use super::error::HeaderRefusal;

/// `aes-xts-plain64` with one of its two key sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-128-XTS, a key of 32 bytes.
    Aes128Xts,
    /// AES-256-XTS, a key of 64 bytes.
    Aes256Xts,
}

impl Cipher {
    /// The cipher for a header's specification and key size in bytes.
    pub(super) fn parse(specification: &str, key_size: u32) -> Result<Self, HeaderRefusal> {
        if specification != SPECIFICATION {
            // dm-crypt knows two spellings: `cipher_null-ecb` and `capi:ecb(cipher_null)`.
            return Err(if specification.contains("null") {
                HeaderRefusal::CipherNull
            } else {
                HeaderRefusal::Cipher
            });
        }
        match key_size {
            32 => Ok(Self::Aes128Xts),
            64 => Ok(Self::Aes256Xts),
            _ => Err(HeaderRefusal::KeySize),
        }
    }

    /// Bytes of the key: two AES keys.
    #[must_use]
    pub const fn key_size(self) -> u32 {
        match self {
            Self::Aes128Xts => 32,
            Self::Aes256Xts => 64,
        }
    }

    /// The specification as headers and dm-crypt tables spell it.
    #[must_use]
    pub const fn specification(self) -> &'static str {
        SPECIFICATION
    }
}

/// A hash in a key derivation, a split or a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// The hash by its name in headers.
    pub(super) fn parse(name: &str) -> Result<Self, HeaderRefusal> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "sha384" => Ok(Self::Sha384),
            "sha512" => Ok(Self::Sha512),
            _ => Err(HeaderRefusal::Hash),
        }
    }

    /// The name as headers spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a digest.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

const SPECIFICATION: &str = "aes-xts-plain64";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aes_xts_with_its_key_sizes_is_a_cipher() {
        assert_eq!(Cipher::parse("aes-xts-plain64", 32), Ok(Cipher::Aes128Xts));
        assert_eq!(Cipher::parse("aes-xts-plain64", 64), Ok(Cipher::Aes256Xts));
        for size in [0, 16, 31, 33, 48, 65, 96] {
            assert_eq!(Cipher::parse("aes-xts-plain64", size), Err(HeaderRefusal::KeySize), "{size}");
        }
        for other in
            ["aes-cbc-essiv:sha256", "aes-xts-plain", "AES-XTS-PLAIN64", "aes-xts-plain64 ", "aes", ""]
        {
            assert_eq!(Cipher::parse(other, 64), Err(HeaderRefusal::Cipher), "{other}");
        }
    }

    #[test]
    fn the_null_cipher_is_refused_by_name_in_every_spelling() {
        for other in ["cipher_null-ecb", "cipher_null-ecb-plain", "null", "capi:ecb(cipher_null)-plain64"] {
            assert_eq!(Cipher::parse(other, 0), Err(HeaderRefusal::CipherNull), "{other}");
        }
    }
}
