//! How to mount the root file system, in words that are safe in a unit file without quoting.

use serde::{Deserialize, Serialize};

/// How `sysroot.mount` mounts `/dev/mapper/root`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RootMount {
    /// File system type; with `auto`, mount detects it.
    pub fstype: MountWord,
    /// Mount options, comma-separated.
    pub options: MountOptions,
}

/// A word that needs no quoting in a unit file: letters, digits, `.`, `_`, `-`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountWord(String);

/// Mount options that need no quoting in a unit file: also `,`, `=`, `/`, `:`, `@`, `+`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountOptions(String);

macro_rules! plain_text {
    ($type:ident, $default:literal, $extra:literal, $what:literal) => {
        impl $type {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Default for $type {
            fn default() -> Self {
                Self($default.to_owned())
            }
        }

        impl TryFrom<String> for $type {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || $extra.contains(c);
                if (1..=256).contains(&text.len()) && text.chars().all(plain) {
                    Ok(Self(text))
                } else {
                    Err($what)
                }
            }
        }

        impl From<$type> for String {
            fn from(text: $type) -> Self {
                text.0
            }
        }
    };
}

plain_text!(MountWord, "auto", "", "a file system type is made of letters, digits, '.', '_' and '-'");
plain_text!(MountOptions, "rw", ",=/:@+", "mount options are plain words separated by commas");

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn mount_options_cannot_smuggle_a_line_into_the_unit() {
        for options in ["rw\nExecStart=/bin/sh", "rw %n", "", "rw;x"] {
            let text = serde_json::json!({"root": {"options": options}}).to_string();
            assert!(Config::parse(text.as_bytes()).is_err(), "{options:?}");
        }
        assert!(Config::parse(br#"{"root": {"fstype": "btrfs", "options": "ro,subvol=/@root"}}"#).is_ok());
    }
}
