//! Why an answer does not follow the protocol.

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
    /// The message is not an object.
    #[error("{0} is not an object")]
    NotAnObject(&'static str),
    /// A member is missing or malformed.
    #[error("{what} has a member {name} that {problem}")]
    Member {
        /// Which message.
        what: &'static str,
        /// Which member.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An unknown member where none is allowed, since it could change the meaning of the others.
    #[error("{what} has the unknown member {name:?}")]
    Unknown {
        /// Which message.
        what: &'static str,
        /// The member's name, as far as it is printable.
        name: String,
    },
    /// The challenge came without a session cookie.
    #[error("The challenge sets no session cookie")]
    NoSession,
    /// The key broker demands report data with another hash.
    #[error("The server selects the hash algorithm {0:?}, not sha384")]
    Hash(String),
    /// Not encrypted to our key, or changed in transit.
    #[error("The envelope does not open with the key of this session")]
    Sealed,
}

/// The beginning of an untrusted text for a log: printable ASCII, at most 160 characters.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(160).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
