//! One exchange with a server, as the handshake sees it: a call comes in, an answer of bounded size goes out. Behind it is TLS,
//! or a recording in tests.

use std::io;

use thiserror::Error;

use super::protocol::SessionCookie;

/// A connection to one server.
pub trait Http {
    /// Sends `call` and waits for its answer.
    ///
    /// # Errors
    /// There is none, it comes from somebody else, or it is too large.
    fn send(&mut self, call: &Call<'_>) -> Result<Answer, HttpError>;
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Begins with a slash; of characters that need no escape.
    pub path: String,
    /// JSON for a `POST`; without it, it is a `GET`.
    pub body: Option<String>,
    /// The session.
    pub cookie: Option<&'a SessionCookie>,
    /// Bytes that the answer's body may have.
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
    /// No such name, no route, nobody listens, or the connection broke.
    #[error("The server cannot be reached")]
    Unreachable(#[source] io::Error),
    /// Not in time.
    #[error("The server does not answer in time ({0})")]
    TimedOut(String),
    /// The certificate is not the pinned one, not signed by the pinned authority, or not valid now.
    #[error("The certificate is not the one that the configuration pins: {0}")]
    Certificate(String),
    /// TLS failed for another reason.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server sends us elsewhere: nobody that the configuration names.
    #[error("The server redirects to elsewhere (status {0})")]
    Redirect(u16),
    /// More than the call allows.
    #[error("The answer is larger than {0} bytes")]
    TooLarge(u64),
    /// Not HTTP.
    #[error("The answer is not HTTP that we understand: {0}")]
    Malformed(String),
}
