//! One HTTP exchange as the handshake sees it, with a bounded answer. The implementation is TLS, or a
//! recording in tests.

use std::io;

use thiserror::Error;

use super::protocol::SessionCookie;

/// A connection to one key broker.
pub trait Http {
    /// Sends `call` and waits for its answer.
    ///
    /// # Errors
    /// There is no answer, the server is not the pinned one, or the answer is too large.
    fn send(&mut self, call: &Call<'_>) -> Result<Answer, HttpError>;
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Starts with a slash, and needs no escapes.
    pub path: String,
    /// JSON for a `POST`; `None` means `GET`.
    pub body: Option<String>,
    /// The session cookie.
    pub cookie: Option<&'a SessionCookie>,
    /// Limit for the answer's body, in bytes.
    pub limit: u64,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Values of all `Set-Cookie` headers.
    pub cookies: Vec<String>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The name does not exist, there is no route, nobody listens, or the connection broke.
    #[error("The server cannot be reached")]
    Unreachable(#[source] io::Error),
    /// A timeout.
    #[error("The server does not answer in time ({0})")]
    TimedOut(String),
    /// The certificate is not the pinned one, not signed by the pinned authority, or not valid now.
    #[error("The certificate is not the one that the configuration pins: {0}")]
    Certificate(String),
    /// TLS failed for another reason.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server redirects us, to a server that the configuration does not name.
    #[error("The server redirects to elsewhere (status {0})")]
    Redirect(u16),
    /// The answer exceeds the call's limit.
    #[error("The answer is larger than {0} bytes")]
    TooLarge(u64),
    /// The answer is not HTTP.
    #[error("The answer is not HTTP that we understand: {0}")]
    Malformed(String),
}
