//! Parses what a key broker delivers: a key document, or a bare passphrase. The bytes are parsed as
//! untrusted, although the pinned key broker sent them.
//!
//! A resource that starts with `{` must be a key document, which carries a random secret and may pin the
//! volume key. Anything else is a passphrase, byte for byte: it opens its keyslot but cannot bind anything.
//!
//! The caller wipes the resource, and all results are wiped. The document's members are borrowed from the
//! resource; a text with escapes, which a JSON parser would have to copy, is refused before parsing. Not
//! wiped is the parser's error, which may quote a piece of a refused document; it is dropped at once and
//! never shown.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::base::error::failures;
use crate::base::secret::Secret;
use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::token::passphrase::passphrase;

/// What opens a keyslot.
pub struct Delivered {
    /// The keyslot's passphrase.
    pub passphrase: Secret,
    /// The key of the binding; `None` for a bare passphrase, since a MAC would make guessing it fast.
    pub binding_key: Option<Secret>,
    /// The volume key that it is for.
    pub volume_key: Option<VolumeKeyDigest>,
}

impl Delivered {
    /// Parses a delivered resource.
    ///
    /// # Errors
    /// It is empty, or starts like a key document but is not a valid one.
    pub fn parse(resource: &Secret) -> Result<Self, KeyDocumentError> {
        match resource.expose() {
            [] => Err(KeyDocumentError::Empty),
            [b'{', ..] => Self::document(resource.expose()),
            passphrase => {
                Ok(Self { passphrase: Secret::copy_of(passphrase), binding_key: None, volume_key: None })
            }
        }
    }

    fn document(text: &[u8]) -> Result<Self, KeyDocumentError> {
        if text.contains(&b'\\') {
            return Err(KeyDocumentError::Escape);
        }
        let document: Document<'_> = serde_json::from_slice(text).map_err(|error| {
            // The error's text may quote the secret, so only its place is kept.
            KeyDocumentError::Malformed { line: error.line(), column: error.column() }
        })?;
        if document.version != VERSION {
            return Err(KeyDocumentError::Version(document.version));
        }
        let secret = Base64::decode_vec(document.secret).map(Secret::new);
        let secret = secret.ok().filter(|secret| secret.len() == SECRET_SIZE);
        let secret = secret.ok_or(KeyDocumentError::Secret)?;
        let pin = document.volume_key.map(|digits| VolumeKeyDigest::try_from(digits.to_owned()));
        let volume_key = pin.transpose().map_err(|_| KeyDocumentError::VolumeKey)?;
        Ok(Self { passphrase: passphrase(&secret), binding_key: Some(secret), volume_key })
    }
}

/// The key document for a secret of 32 bytes.
#[must_use]
pub fn write(secret: &Secret, volume_key: &VolumeKeyDigest) -> Secret {
    let (passphrase, pin) = (passphrase(secret), volume_key.to_string());
    let pieces = [
        format!(r#"{{"cvm-unlock":{VERSION},"secret":""#).as_bytes(),
        passphrase.expose(),
        br#"","volume_key":""#,
        pin.as_bytes(),
        b"\"}\n",
    ]
    // One allocation of the right size: growing would leave copies behind.
    .concat();
    Secret::new(pieces)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(rename = "cvm-unlock")]
    version: u32,
    secret: &'a str,
    #[serde(default, borrow, deserialize_with = "present")]
    volume_key: Option<&'a str>,
}

/// A member that may be missing, but not `null`.
fn present<'de, D: Deserializer<'de>>(member: D) -> Result<Option<&'de str>, D::Error> {
    <&str>::deserialize(member).map(Some)
}

/// Why a resource opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyDocumentError {
    /// No bytes.
    #[error("The key broker's resource is empty")]
    Empty,
    /// A string contains an escape; our documents need none.
    #[error("Key document has a backslash")]
    Escape,
    /// Not JSON, or not the members of a key document.
    #[error("Key document is malformed at line {line}, column {column}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Another version.
    #[error("Key document is of version {0}, not {VERSION}")]
    Version(u32),
    /// Not a secret from an enrolment.
    #[error("Key document's secret is not {SECRET_SIZE} bytes in base64")]
    Secret,
    /// Not a digest.
    #[error("Key document's volume_key is not 64 hexadecimal digits")]
    VolumeKey,
}

failures! { KeyDocumentError:
    Self::Empty
    | Self::Escape
    | Self::Malformed { .. }
    | Self::Secret
    | Self::VolumeKey => "kbs-key-document", Data,
        "upload the file that `cvm-unlock enroll --kbs=FILE` wrote, as it is";
    Self::Version(_) => "kbs-key-document", Data, "a newer version of cvm-unlock wrote it";
}

/// The version of key documents.
const VERSION: u32 = 1;
/// Bytes of a secret that an enrolment generates.
const SECRET_SIZE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use crate::base::json::parse_json;
    use crate::base::secret::VolumeKey;
    use proptest::prelude::*;

    const TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn delivered(resource: &[u8]) -> Result<Delivered, KeyDocumentError> {
        Delivered::parse(&Secret::copy_of(resource))
    }

    fn secret() -> Secret {
        Secret::new((0..32).collect())
    }

    fn pin() -> VolumeKeyDigest {
        VolumeKeyDigest::of(&VolumeKey::new(Secret::new(vec![7; 64])))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let document = write(&secret(), &pin());
        let found = Delivered::parse(&document).unwrap();
        assert_eq!(found.passphrase.expose(), TEXT.as_bytes());
        assert_eq!(found.binding_key.unwrap().expose(), secret().expose());
        assert_eq!(found.volume_key, Some(pin()));
        assert!(parse_json(document.expose()).is_ok(), "a strict parser accepts it");
    }

    #[test]
    fn a_pin_may_be_missing() {
        let found = delivered(format!(r#"{{"secret":"{TEXT}","cvm-unlock":1}}"#).as_bytes()).unwrap();
        assert!(found.volume_key.is_none() && found.binding_key.is_some());
    }

    #[test]
    fn anything_that_is_no_document_is_a_passphrase_byte_for_byte() {
        for passphrase in [&b"correct horse\n"[..], b" {}", b"\0", b"\xff\xfe", b"[1]", TEXT.as_bytes()] {
            let found = delivered(passphrase).unwrap();
            assert_eq!(found.passphrase.expose(), passphrase);
            assert!(found.binding_key.is_none() && found.volume_key.is_none());
        }
        assert_eq!(delivered(b"").err(), Some(KeyDocumentError::Empty));
    }

    #[test]
    fn what_begins_as_a_document_is_one_or_is_refused() {
        let refused = |text: String| delivered(text.as_bytes()).err();
        let (secret, version) = (format!(r#""secret":"{TEXT}""#), r#""cvm-unlock":1"#);
        for text in [
            "{".to_owned(),
            "{}".to_owned(),
            format!("{{{version}}}"),
            format!("{{{secret}}}"),
            format!("{{{version},{secret}}} {{}}"),
            format!("{{{version},{secret},}}"),
            format!("{{{version},{secret},{secret}}}"),
            format!("{{{version},{version},{secret}}}"),
            format!(r#"{{{version},{secret},"more":1}}"#),
            format!(r#"{{{version},{secret},"volume_key":null}}"#),
            format!(r#"{{"cvm-unlock":1.0,{secret}}}"#),
            format!(r#"{{"cvm-unlock":1e0,{secret}}}"#),
            format!(r#"{{"cvm-unlock":-1,{secret}}}"#),
            format!(r#"{{"cvm-unlock":"1",{secret}}}"#),
            format!(r#"{{{version},"secret":["{TEXT}"]}}"#),
        ] {
            assert!(matches!(refused(text.clone()), Some(KeyDocumentError::Malformed { .. })), "{text}");
        }
        let other = |version: u32| refused(format!(r#"{{"cvm-unlock":{version},{secret}}}"#));
        assert_eq!(
            (other(0), other(2)),
            (Some(KeyDocumentError::Version(0)), Some(KeyDocumentError::Version(2)))
        );
        for secret in
            ["", "AAEC", &TEXT[1..], &TEXT[..43], &format!("{TEXT}\u{20}"), &TEXT.replace("8=", "9=")]
        {
            let text = format!(r#"{{{version},"secret":"{secret}"}}"#);
            assert_eq!(refused(text), Some(KeyDocumentError::Secret), "{secret}");
        }
        for pin in ["", "5a", &"zz".repeat(32), &"5a".repeat(33), &"\u{e4}".repeat(32)] {
            let text = format!(r#"{{{version},{secret},"volume_key":"{pin}"}}"#);
            assert_eq!(refused(text), Some(KeyDocumentError::VolumeKey), "{pin}");
        }
        let escaped = format!(r#"{{{version},"s\u0065cret":"{TEXT}"}}"#);
        assert_eq!(refused(escaped), Some(KeyDocumentError::Escape));
    }

    #[test]
    fn no_refusal_quotes_the_document() {
        for text in [
            format!(r#"{{"cvm-unlock":"{TEXT}"}}"#),
            format!(r#"{{"{TEXT}":1}}"#),
            format!(r#"{{"cvm-unlock":1,"secret":"{TEXT}x"}}"#),
            format!(r#"{{"cvm-unlock":1,"secret":"{TEXT}","volume_key":"{TEXT}"}}"#),
        ] {
            let error = delivered(text.as_bytes()).err().unwrap();
            assert_eq!(error.slug(), "kbs-key-document");
            let told = format!("{error} {error:?} {}", crate::base::error::chain(&error));
            assert!(!told.contains(&TEXT[..8]), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..80), document: bool) {
            let bytes = if document { [&b"{"[..], &bytes].concat() } else { bytes };
            let begins = bytes.first() == Some(&b'{');
            match delivered(&bytes) {
                Ok(found) => prop_assert_eq!((begins, found.passphrase.expose()), (false, bytes.as_slice())),
                Err(_) => prop_assert!(bytes.is_empty() || begins),
            }
        }

        #[test]
        fn every_secret_is_read_back(bytes in prop::collection::vec(any::<u8>(), 32)) {
            let secret = Secret::new(bytes);
            let found = Delivered::parse(&write(&secret, &pin())).unwrap();
            let key = found.binding_key.unwrap();
            prop_assert_eq!(key.expose(), secret.expose());
        }

        #[test]
        fn what_is_accepted_is_strict_json(version in "1|01|1.0", text in "[\"{}:,a-z\\\\ ]{0,6}") {
            let text = format!(r#"{{"cvm-unlock":{version},"secret":"{TEXT}"{text}}}"#);
            if delivered(text.as_bytes()).is_ok() {
                prop_assert!(parse_json(text.as_bytes()).is_ok(), "{text}");
            }
        }
    }
}
