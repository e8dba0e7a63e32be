//! What went wrong at one key broker, and what to try next.

use thiserror::Error;

use super::evidence::EvidenceError;
use super::http::HttpError;
use super::protocol::ProtocolError;
use crate::base::error::failures;

/// What went wrong at one key broker.
#[derive(Debug, Error)]
pub enum Fault {
    /// There was no answer.
    #[error("{step}")]
    Http {
        /// What we were doing.
        step: Exchange,
        /// The error.
        #[source]
        source: HttpError,
    },
    /// The answer does not follow the protocol.
    #[error("{step}: the answer makes no sense")]
    Answer {
        /// What we were doing.
        step: Exchange,
        /// What is wrong with it.
        #[source]
        source: ProtocolError,
    },
    /// A status of a server in trouble.
    #[error("{step}: the server is in trouble (status {status})")]
    Trouble {
        /// What we were doing.
        step: Exchange,
        /// HTTP status code.
        status: u16,
    },
    /// A refusal by a server that does not speak the protocol.
    #[error("{step}: refused without an explanation (status {status})")]
    NotAKeyBroker {
        /// What we were doing.
        step: Exchange,
        /// HTTP status code.
        status: u16,
    },
    /// Protocol 0.1.
    #[error("The server speaks protocol {0}, which does not authenticate what it sends")]
    TooOld(String),
    /// A protocol version that we do not support.
    #[error("The server speaks protocol {0}, which this version does not")]
    Version(String),
    /// The key broker cannot issue a challenge, or keeps naming other versions: it is starting up, or a load
    /// balancer mixes versions.
    #[error("The server gives no challenge: {detail}")]
    NoChallenge {
        /// The key broker's words.
        detail: String,
    },
    /// The key broker does not know the platform.
    #[error("The server does not offer attestation to {tee}: {detail}")]
    Platform {
        /// The platform.
        tee: &'static str,
        /// The key broker's words.
        detail: String,
    },
    /// Collecting evidence failed.
    #[error("Collecting evidence")]
    Evidence(#[source] EvidenceError),
    /// The kernel has no random numbers.
    #[error("Making a key for the session")]
    Random,
    /// The evidence was not accepted.
    #[error("The server does not accept the evidence: {detail}")]
    EvidenceRefused {
        /// The key broker's words.
        detail: String,
    },
    /// The evidence was accepted, but the policy denies the key.
    #[error("The server's policy denies the key to this machine in its present state: {detail}")]
    Denied {
        /// The key broker's words.
        detail: String,
    },
    /// No such resource.
    #[error("The server has no resource {path}: {detail}")]
    Missing {
        /// Its path.
        path: String,
        /// The key broker's words.
        detail: String,
    },
    /// Any other refusal.
    #[error("{step}: the server refuses with {kind}: {detail}")]
    Refused {
        /// What we were doing.
        step: Exchange,
        /// The last part of the error's type.
        kind: String,
        /// The key broker's words.
        detail: String,
    },
    /// An empty resource.
    #[error("The resource {path} is empty")]
    Empty {
        /// Its path.
        path: String,
    },
}

/// A step of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// `POST /auth`
    Challenge,
    /// `POST /attest`
    Attest,
    /// `GET /resource`
    Fetch,
}

impl std::fmt::Display for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Challenge => "Asking for a challenge",
            Self::Attest => "Sending evidence",
            Self::Fetch => "Fetching the key",
        })
    }
}

/// What to do after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextServer {
    /// Stop: the answer is final, and nobody else is asked.
    GiveUp,
    /// Try another key broker; this one cannot help.
    OtherServer,
    /// Ask this one again until the deadline; the fault may pass.
    Retry,
}

impl Fault {
    /// What to do next.
    #[must_use]
    pub const fn next(&self) -> NextServer {
        match self {
            Self::Denied { .. } | Self::Evidence(_) | Self::Random => NextServer::GiveUp,
            Self::Trouble { .. }
            | Self::NoChallenge { .. }
            | Self::Http { source: HttpError::Unreachable(_) | HttpError::TimedOut(_), .. } => NextServer::Retry,
            Self::Http { .. }
            | Self::Answer { .. }
            | Self::NotAKeyBroker { .. }
            | Self::TooOld(_)
            | Self::Version(_)
            | Self::Platform { .. }
            // A verifier in trouble reports the same as one that rejects the evidence.
            | Self::EvidenceRefused { .. }
            | Self::Missing { .. }
            | Self::Refused { .. }
            | Self::Empty { .. } => NextServer::OtherServer,
        }
    }
}

impl Fault {
    /// Whether it is an answer about this key alone; another key may still be released.
    #[must_use]
    pub const fn is_about_the_key(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Missing { .. } | Self::Empty { .. })
    }

    /// Whether a timeout caused it.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Http { source: HttpError::TimedOut(_), .. })
    }
}

failures! { Fault:
    Self::Http { source: HttpError::Unreachable(_), .. } => "kbs-unreachable", Unavailable, "";
    Self::Http { source: HttpError::TimedOut(_), .. } => "kbs-timeout", Unavailable, "";
    Self::Http { source: HttpError::Certificate(_), .. } => "kbs-certificate", Data,
        "kbs.servers pins the CA (not a self-signed leaf) or the leaf's key: openssl x509 -pubkey -noout -in \
         leaf.pem | openssl pkey -pubin -outform DER | sha256sum";
    Self::Http { source: HttpError::Tls(_), .. } => "kbs-tls", Data, "the server has to offer TLS 1.3";
    Self::Http { source: HttpError::Redirect(_), .. } => "kbs-redirect", Data, "";
    Self::Http { source: HttpError::TooLarge(_), .. } => "kbs-answer-too-large", Data, "";
    Self::Answer { source: ProtocolError::Sealed, .. } => "kbs-envelope", Data, "";
    Self::Http { source: HttpError::Malformed(_), .. } | Self::Answer { .. } => "kbs-answer", Data, "";
    Self::Trouble { .. } => "kbs-trouble", Unavailable, "";
    Self::NotAKeyBroker { .. } => "kbs-not-a-key-broker", Data, "";
    Self::TooOld(_) => "kbs-too-old", Refused, "use a Trustee of v0.12 or later";
    Self::Version(_) => "kbs-version", Refused, "";
    Self::NoChallenge { .. } => "kbs-no-challenge", Unavailable,
        "the server's log says why; its attestation service may not be running";
    Self::Platform { .. } => "kbs-platform", Refused, "";
    Self::Evidence(error) => from error;
    Self::Random => "random-failed", Os, "";
    Self::EvidenceRefused { .. } => "kbs-evidence-refused", Refused, "the server's log says why";
    Self::Denied { .. } => "kbs-denied", Refused,
        "compare `cvm-unlock attest` with the server's reference values and resource policy";
    Self::Missing { .. } => "kbs-resource-missing", Refused, "";
    Self::Refused { .. } => "kbs-refused", Refused, "";
    Self::Empty { .. } => "kbs-resource-empty", Data, "";
}
