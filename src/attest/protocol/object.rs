//! Typed access to the members of a JSON object in an answer.

use serde_json::{Map, Value};

use super::error::{ProtocolError, excerpt};
use crate::base::json;

/// The members of one message.
pub(super) struct Object {
    what: &'static str,
    members: Map<String, Value>,
}

impl Object {
    /// Parses the message `what`.
    pub(super) fn parse(what: &'static str, bytes: &[u8]) -> Result<Self, ProtocolError> {
        let value = json::parse_json(bytes).map_err(|source| ProtocolError::Json { what, source })?;
        Self::of(what, value)
    }

    fn of(what: &'static str, value: Value) -> Result<Self, ProtocolError> {
        match value {
            Value::Object(members) => Ok(Self { what, members }),
            _ => Err(ProtocolError::NotAnObject(what)),
        }
    }

    /// The error for the member `name`.
    pub(super) const fn wrong(&self, name: &'static str, problem: &'static str) -> ProtocolError {
        ProtocolError::Member { what: self.what, name, problem }
    }

    /// Takes a member that may be missing.
    pub(super) fn optional(&mut self, name: &'static str) -> Option<Value> {
        self.members.remove(name)
    }

    /// Takes a text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<String, ProtocolError> {
        match self.members.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.wrong(name, "is not a string")),
            None => Err(self.wrong(name, "is missing")),
        }
    }

    /// Takes a text that must be `expected`.
    pub(super) fn exactly(
        &mut self,
        name: &'static str,
        expected: &str,
        problem: &'static str,
    ) -> Result<(), ProtocolError> {
        if self.text(name)? == expected { Ok(()) } else { Err(self.wrong(name, problem)) }
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Self, ProtocolError> {
        let value = self.members.remove(name).ok_or_else(|| self.wrong(name, "is missing"))?;
        Self::of(name, value)
    }

    /// Checks that every member was taken.
    pub(super) fn finish(self) -> Result<(), ProtocolError> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => Err(ProtocolError::Unknown { what: self.what, name: excerpt(name) }),
        }
    }
}
