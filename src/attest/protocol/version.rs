//! Versions of the protocol. A key broker accepts exactly one, and names it when it refuses another.

use std::fmt;

use super::error::excerpt;

/// A version that we support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Trustee v0.14 and later.
    V0_4_0,
    /// Trustee v0.12 and v0.13.
    V0_2_0,
}

/// The version that a key broker demands when it refuses ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// One that we support, too.
    Spoken(Version),
    /// 0.1.1 or older: RSA with PKCS#1 v1.5 padding, and the envelope's header is not authenticated.
    TooOld(String),
    /// Another version.
    Unknown(String),
}

impl Version {
    /// As sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_4_0 => "0.4.0",
            Self::V0_2_0 => "0.2.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Expected {
    /// Parses a refusal's detail; `None` if it is not about versions.
    #[must_use]
    pub fn read(detail: &str) -> Option<Self> {
        let (_, rest) = detail.split_once(MISMATCH)?;
        // A requirement as Rust's `semver` crate writes it: `=0.4.0`, `<=0.1.0`.
        let number = rest.split_whitespace().next()?.trim_start_matches(['=', '<', '>', '^', '~']);
        Some(match number {
            "0.4.0" => Self::Spoken(Version::V0_4_0),
            "0.2.0" => Self::Spoken(Version::V0_2_0),
            old if old.starts_with("0.1.") || old == "0.1" => Self::TooOld(excerpt(old)),
            other => Self::Unknown(excerpt(other)),
        })
    }
}

/// Trustee, `kbs/src/attestation/backend.rs`.
const MISMATCH: &str = "Protocol Version Mismatch: expect ";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_server_says_which_version_it_speaks() {
        // The answer of a 0.4.0 server to 0.2.0; the others have the number changed.
        let said = |expect: &str, ours: &str| {
            Expected::read(&format!(
                "RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: expect {expect} while the request is {ours}"
            ))
        };
        assert_eq!(said("=0.4.0", "0.2.0"), Some(Expected::Spoken(Version::V0_4_0)));
        assert_eq!(said("=0.2.0", "0.4.0"), Some(Expected::Spoken(Version::V0_2_0)));
        assert_eq!(said("=0.1.1", "0.4.0"), Some(Expected::TooOld("0.1.1".into())));
        assert_eq!(said("<=0.1.0", "0.4.0"), Some(Expected::TooOld("0.1.0".into())));
        assert_eq!(said("=0.5.0", "0.4.0"), Some(Expected::Unknown("0.5.0".into())));
        assert_eq!(Expected::read("RCAR handshake Auth failed: deserialize Request"), None);
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "(Protocol Version Mismatch: expect )?.{0,40}") {
            let _ = Expected::read(&text);
        }
    }
}
