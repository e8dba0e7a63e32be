//! Where a volume's key lies at the key broker: the path, from a template of the measured configuration and
//! the volume's UUID. A path in an untrusted token is accepted only in the template's repository and type,
//! and only if the template does not name one key for all volumes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::uuid::Uuid;

/// `repository/type/tag`. The tag may contain `{uuid}`, which stands for the volume's LUKS UUID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceTemplate {
    repository: Segment,
    kind: Segment,
    tag: String,
}

/// A path of exactly three segments (Trustee, `kbs/src/plugins/implementations/resource`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePath {
    repository: Segment,
    kind: Segment,
    tag: Segment,
}

/// 1 to 128 letters, digits, `.`, `_`, `-`; neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment(String);

impl ResourceTemplate {
    /// The path of this volume's key.
    #[must_use]
    pub fn path(&self, uuid: &Uuid) -> Option<ResourcePath> {
        let tag = Segment::new(&self.tag.replace(UUID, &uuid.to_string()))?;
        Some(ResourcePath { repository: self.repository.clone(), kind: self.kind.clone(), tag })
    }

    /// Accepts a path in a token if it is in this template's repository and type. If the template names one
    /// key for all volumes, the path must be that key's.
    #[must_use]
    pub fn accept(&self, path: &str) -> Option<ResourcePath> {
        let path = ResourcePath::parse(path)?;
        let tag = self.tag.contains(UUID) || path.tag.0 == self.tag;
        (path.repository == self.repository && path.kind == self.kind && tag).then_some(path)
    }
}

impl TryFrom<String> for ResourceTemplate {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parse = || {
            let mut segments = text.split('/');
            let (repository, kind, tag) = (segments.next()?, segments.next()?, segments.next()?);
            let template = Self {
                repository: Segment::new(repository)?,
                kind: Segment::new(kind)?,
                tag: tag.to_owned(),
            };
            // Any UUID will do: all have the same length and characters.
            template.path(&Uuid::new([0; 16]))?;
            segments.next().is_none().then_some(template)
        };
        parse().ok_or(
            "a resource is repository/type/tag, each of letters, digits, '.', '_' and '-'; the tag may contain {uuid}",
        )
    }
}

impl From<ResourceTemplate> for String {
    fn from(template: ResourceTemplate) -> Self {
        format!("{}/{}/{}", template.repository.0, template.kind.0, template.tag)
    }
}

impl ResourcePath {
    /// Parses three segments; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut segments = text.split('/').map(Segment::new);
        let path = Self { repository: segments.next()??, kind: segments.next()??, tag: segments.next()?? };
        segments.next().is_none().then_some(path)
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.repository.0, self.kind.0, self.tag.0)
    }
}

impl Segment {
    fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(plain) && text != "." && text != "..";
        fits.then(|| Self(text.to_owned()))
    }
}

const UUID: &str = "{uuid}";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VOLUME: Uuid = Uuid::new([0x5a; 16]);

    fn template(text: &str) -> Result<ResourceTemplate, &'static str> {
        ResourceTemplate::try_from(text.to_owned())
    }

    #[test]
    fn the_uuid_stands_in_the_tag() {
        let path = template("default/disk/root-{uuid}").unwrap().path(&VOLUME).unwrap();
        assert_eq!(path.to_string(), "default/disk/root-5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");
        assert_eq!(template("a/b/c").unwrap().path(&VOLUME).unwrap().to_string(), "a/b/c");
    }

    #[test]
    fn a_template_that_could_leave_its_place_is_refused() {
        for text in [
            "",
            "a/b",
            "a/b/c/d",
            "/a/b/c",
            "a/b/",
            "a//c",
            "a/../c",
            "a/b/..",
            "a/b/c?x=y",
            "a/b/c#",
            "a/b/c%2f",
            "{uuid}/b/c",
            "a/{uuid}/c",
            "a/b/{hostname}",
            "a b/c/d",
            "a/b/\u{e4}",
        ] {
            assert!(template(text).is_err(), "{text}");
        }
        assert!(template(&format!("a/b/{}", "x".repeat(129))).is_err());
        assert!(template(&format!("a/b/{}", "{uuid}".repeat(4))).is_err(), "too long with the UUID in it");
    }

    #[test]
    fn a_path_of_a_disk_stays_inside_the_repository_and_type() {
        let template = template("default/disk/{uuid}").unwrap();
        assert_eq!(template.accept("default/disk/other").unwrap().to_string(), "default/disk/other");
        for path in
            ["other/disk/x", "default/key/x", "default/disk/../key/x", "default/disk", "default/disk/x/y"]
        {
            assert_eq!(template.accept(path), None, "{path}");
        }
    }

    #[test]
    fn where_the_template_names_one_key_a_disk_names_no_other() {
        let template = template("default/disk/root").unwrap();
        assert_eq!(template.accept("default/disk/root").unwrap().to_string(), "default/disk/root");
        assert_eq!(template.accept("default/disk/other"), None);
    }

    proptest! {
        #[test]
        fn a_path_is_three_plain_segments_or_nothing(text in "[a-z./{}?-]{0,12}|.{0,20}") {
            if let Some(path) = ResourcePath::parse(&text) {
                prop_assert_eq!(path.to_string(), text.clone());
                prop_assert!(text.split('/').count() == 3 && !text.contains("..") || text.split('/').all(|s| s != ".."));
            }
            if let Ok(template) = template(&text) {
                prop_assert_eq!(String::from(template), text);
            }
        }
    }
}
