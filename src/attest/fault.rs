//! What went wrong at one key broker, and what to try next.

use thiserror::Error;

use super::evidence::EvidenceError;
use super::http::HttpError;
use super::protocol::ProtocolError;
use crate::base::error::{Class, Failure};

/// What went wrong at one key broker.
#[derive(Debug, Error)]
pub enum Fault {
    /// There was no answer.
    #[error("{step}")]
    Http {
        /// What we were doing.
        step: Step,
        /// The error.
        #[source]
        source: HttpError,
    },
    /// The answer does not follow the protocol.
    #[error("{step}: the answer makes no sense")]
    Answer {
        /// What we were doing.
        step: Step,
        /// What is wrong with it.
        #[source]
        source: ProtocolError,
    },
    /// A status of a server in trouble.
    #[error("{step}: the server is in trouble (status {status})")]
    Trouble {
        /// What we were doing.
        step: Step,
        /// HTTP status code.
        status: u16,
    },
    /// A refusal by a server that does not speak the protocol.
    #[error("{step}: refused without an explanation (status {status})")]
    NotAKeyBroker {
        /// What we were doing.
        step: Step,
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
        step: Step,
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
pub enum Step {
    /// `POST /auth`
    Challenge,
    /// `POST /attest`
    Attest,
    /// `GET /resource`
    Fetch,
}

impl std::fmt::Display for Step {
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
pub enum Next {
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
    pub const fn next(&self) -> Next {
        match self {
            Self::Denied { .. } | Self::Evidence(_) | Self::Random => Next::GiveUp,
            Self::Trouble { .. }
            | Self::NoChallenge { .. }
            | Self::Http { source: HttpError::Unreachable(_) | HttpError::TimedOut(_), .. } => Next::Retry,
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
            | Self::Empty { .. } => Next::OtherServer,
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

impl Failure for Fault {
    fn slug(&self) -> &'static str {
        match self {
            Self::Http { source, .. } => match source {
                HttpError::Unreachable(_) => "kbs-unreachable",
                HttpError::TimedOut(_) => "kbs-timeout",
                HttpError::Certificate(_) => "kbs-certificate",
                HttpError::Tls(_) => "kbs-tls",
                HttpError::Redirect(_) => "kbs-redirect",
                HttpError::TooLarge(_) => "kbs-answer-too-large",
                HttpError::Malformed(_) => "kbs-answer",
            },
            Self::Answer { source: ProtocolError::Sealed, .. } => "kbs-envelope",
            Self::Answer { .. } => "kbs-answer",
            Self::Trouble { .. } => "kbs-trouble",
            Self::NotAKeyBroker { .. } => "kbs-not-a-key-broker",
            Self::TooOld(_) => "kbs-too-old",
            Self::Version(_) => "kbs-version",
            Self::NoChallenge { .. } => "kbs-no-challenge",
            Self::Platform { .. } => "kbs-platform",
            Self::Evidence(error) => error.slug(),
            Self::Random => "random-failed",
            Self::EvidenceRefused { .. } => "kbs-evidence-refused",
            Self::Denied { .. } => "kbs-denied",
            Self::Missing { .. } => "kbs-resource-missing",
            Self::Refused { .. } => "kbs-refused",
            Self::Empty { .. } => "kbs-resource-empty",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Http { source: HttpError::Unreachable(_) | HttpError::TimedOut(_), .. }
            | Self::Trouble { .. }
            | Self::NoChallenge { .. } => Class::Unavailable,
            Self::Http { .. } | Self::Answer { .. } | Self::NotAKeyBroker { .. } | Self::Empty { .. } => {
                Class::Data
            }
            Self::Evidence(error) => error.class(),
            Self::Random => Class::Os,
            Self::TooOld(_)
            | Self::Version(_)
            | Self::Platform { .. }
            | Self::EvidenceRefused { .. }
            | Self::Denied { .. }
            | Self::Missing { .. }
            | Self::Refused { .. } => Class::Refused,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Http { source: HttpError::Certificate(_), .. } => {
                "kbs.servers pins the CA (not a self-signed leaf) or the leaf's key: openssl x509 -pubkey -noout -in \
                 leaf.pem | openssl pkey -pubin -outform DER | sha256sum"
            }
            Self::Http { source: HttpError::Tls(_), .. } => "the server has to offer TLS 1.3",
            Self::NoChallenge { .. } => {
                "the server's log says why; its attestation service may not be running"
            }
            Self::TooOld(_) => "use a Trustee of v0.12 or later",
            Self::Denied { .. } => {
                "compare `cvm-unlock attest` with the server's reference values and resource policy"
            }
            Self::EvidenceRefused { .. } => "the server's log says why",
            Self::Evidence(error) => error.hint(),
            _ => "",
        }
    }
}
