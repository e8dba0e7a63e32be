//! Chooses which of the two header copies is used, and reports the state of both. Pure: it reads and repairs
//! nothing.

use super::binary_header::BinaryHeader;
use super::error::{Damage, HeaderError};
use crate::base::json::Json;

/// A copy whose checksum holds and whose JSON is well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// The binary header.
    pub(super) header: BinaryHeader,
    /// The JSON area.
    pub(super) json: Json,
}

/// The state of the two copies, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Both copies are equal.
    Sound,
    /// The secondary copy is one write behind, because a write was interrupted. The primary is used.
    SecondaryStale,
    /// The primary copy is one write behind. The secondary is used.
    PrimaryStale,
    /// The primary copy is damaged. The secondary is used.
    PrimaryDamaged(Damage),
    /// The secondary copy is damaged. The primary is used.
    SecondaryDamaged(Damage),
}

impl Condition {
    /// Stable name for the report; `None` for a sound header.
    #[must_use]
    pub const fn slug(self) -> Option<&'static str> {
        match self {
            Self::Sound => None,
            Self::SecondaryStale | Self::PrimaryStale => Some("header-copy-stale"),
            Self::PrimaryDamaged(_) | Self::SecondaryDamaged(_) => Some("header-copy-damaged"),
        }
    }
}

/// Chooses a copy.
///
/// # Errors
/// Both copies are damaged, or both are valid but contradict each other.
pub(super) fn choose(
    primary: Result<Copy, Damage>,
    secondary: Result<Copy, Damage>,
) -> Result<(Copy, Condition), HeaderError> {
    let (primary, secondary) = match (primary, secondary) {
        (Ok(primary), Ok(secondary)) => (primary, secondary),
        (Ok(primary), Err(damage)) => return Ok((primary, Condition::SecondaryDamaged(damage))),
        (Err(damage), Ok(secondary)) => return Ok((secondary, Condition::PrimaryDamaged(damage))),
        (Err(damage), Err(_)) => return Err(HeaderError::Damaged(damage)),
    };
    let (newer, older) = (primary.header.seqid, secondary.header.seqid);
    if newer == older {
        return if primary == secondary {
            Ok((primary, Condition::Sound))
        } else {
            Err(HeaderError::CopiesDiffer)
        };
    }
    // An interrupted write changes neither the volume's UUID nor where its copies lie.
    if (primary.header.uuid, primary.header.size) != (secondary.header.uuid, secondary.header.size) {
        return Err(HeaderError::CopiesDiffer);
    }
    if older.checked_add(1) == Some(newer) {
        Ok((primary, Condition::SecondaryStale))
    } else if newer.checked_add(1) == Some(older) {
        Ok((secondary, Condition::PrimaryStale))
    } else {
        Err(HeaderError::Sequence { primary: newer, secondary: older })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;
    use crate::base::uuid::Uuid;
    use crate::format::luks::binary_header::{HeaderSize, Label};
    use serde_json::{Value, json};

    fn copy(seqid: u64, json: &Value) -> Copy {
        let header = BinaryHeader {
            size: HeaderSize::MIN,
            seqid,
            label: Label::default(),
            subsystem: Label::default(),
            uuid: Uuid::new([7; 16]),
        };
        Copy { header, json: Json::parse(json.to_string().as_bytes()).unwrap() }
    }

    fn slug(primary: Result<Copy, Damage>, secondary: Result<Copy, Damage>) -> &'static str {
        choose(primary, secondary).unwrap_err().slug()
    }

    #[test]
    fn equal_copies_are_sound() {
        let chosen = choose(Ok(copy(3, &json!({"a": 1}))), Ok(copy(3, &json!({"a": 1})))).unwrap();
        assert_eq!(chosen.1, Condition::Sound);
    }

    #[test]
    fn copies_that_contradict_each_other_are_refused() {
        assert_eq!(slug(Ok(copy(3, &json!({"a": 1}))), Ok(copy(3, &json!({"a": 2})))), "luks-copies-differ");
        let mut other = copy(3, &json!({}));
        other.header.label = Label::parse(b"root\0");
        assert_eq!(slug(Ok(copy(3, &json!({}))), Ok(other)), "luks-copies-differ");
    }

    #[test]
    fn the_newer_of_an_interrupted_write_is_used() {
        let (used, condition) = choose(Ok(copy(4, &json!({"a": 1}))), Ok(copy(3, &json!({})))).unwrap();
        assert_eq!((used.header.seqid, condition), (4, Condition::SecondaryStale));
        let (used, condition) = choose(Ok(copy(3, &json!({}))), Ok(copy(4, &json!({"a": 1})))).unwrap();
        assert_eq!((used.header.seqid, condition), (4, Condition::PrimaryStale));
    }

    #[test]
    fn copies_of_other_ages_or_volumes_are_refused() {
        assert_eq!(slug(Ok(copy(5, &json!({}))), Ok(copy(3, &json!({})))), "luks-copies-sequence");
        assert_eq!(slug(Ok(copy(u64::MAX, &json!({}))), Ok(copy(0, &json!({})))), "luks-copies-sequence");
        let mut other = copy(4, &json!({}));
        other.header.uuid = Uuid::new([8; 16]);
        assert_eq!(slug(Ok(copy(3, &json!({}))), Ok(other)), "luks-copies-differ");
    }

    #[test]
    fn a_damaged_copy_is_replaced_by_the_other_and_said() {
        let (_, condition) = choose(Err(Damage::Checksum), Ok(copy(3, &json!({})))).unwrap();
        assert_eq!(condition.slug(), Some("header-copy-damaged"));
        let (_, condition) = choose(Ok(copy(3, &json!({}))), Err(Damage::Magic)).unwrap();
        assert_eq!(condition, Condition::SecondaryDamaged(Damage::Magic));
    }

    #[test]
    fn two_damaged_copies_give_the_primarys_reason() {
        assert_eq!(slug(Err(Damage::Checksum), Err(Damage::Magic)), "luks-checksum");
    }
}
