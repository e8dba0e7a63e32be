//! Why an answer is not one of the protocol's.

use thiserror::Error;

use crate::base::json::JsonError;

/// What is wrong with the bytes of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// Not JSON that we accept.
    #[error("{what} is not JSON that we accept")]
    Json {
        /// Which message.
        what: &'static str,
        /// Why not.
        #[source]
        source: JsonError,
    },
    /// The message is no object.
    #[error("{0} is not an object")]
    NotAnObject(&'static str),
    /// A member is missing or has a wrong form.
    #[error("{what} has a member {name} that {problem}")]
    Member {
        /// Which message.
        what: &'static str,
        /// Which member.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A member where none may be added: it could change the meaning of the others.
    #[error("{what} has the unknown member {name:?}")]
    Unknown {
        /// Which message.
        what: &'static str,
        /// The member's name, as far as it is printable.
        name: String,
    },
    /// The challenge came without a session.
    #[error("The challenge sets no session cookie")]
    NoSession,
    /// The server wants report data by another hash.
    #[error("The server selects the hash algorithm {0:?}, not sha384")]
    Hash(String),
    /// Not encrypted to our key, or changed on its way.
    #[error("The envelope does not open with the key of this session")]
    Sealed,
}

/// The beginning of a text that a server wrote, fit for a log: printable ASCII, at most 160 characters.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(160).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
