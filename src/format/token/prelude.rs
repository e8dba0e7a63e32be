//! The members that tokens of all types share.

use serde_json::Value;

use super::error::TokenError;
use crate::format::luks::members::Members;

/// The one keyslot of a token of type `kind`, and the members that are specific to that type.
pub(super) fn prelude<'a>(id: u32, value: &'a Value, kind: &str) -> Result<(Members<'a>, u32), TokenError> {
    let mut members = Members::of(&format!("tokens.{id}"), value)?;
    if members.text("type")? != kind {
        return Err(TokenError::OtherType);
    }
    let keyslots = members.ids("keyslots")?;
    match (keyslots.first().copied(), keyslots.len()) {
        (Some(keyslot), 1) => Ok((members, keyslot)),
        _ => Err(TokenError::Keyslots),
    }
}
