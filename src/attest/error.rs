//! Why no key broker released the key: the last fault, and what is reported of it.

use thiserror::Error;

use super::fault::Fault;
use crate::base::error::{Class, Failure};

/// Why there is no key.
#[derive(Debug, Error)]
pub enum AttestError {
    /// The configuration has no member `kbs`.
    #[error("The configuration names no key broker")]
    NotConfigured,
    /// The fault at the key broker that was asked last.
    #[error("Key broker {server}")]
    AtServer {
        /// Its address.
        server: String,
        /// What went wrong.
        #[source]
        fault: Fault,
    },
    /// The deadline passed before any key broker could be asked.
    #[error("There was no time to ask a key broker")]
    NoTime,
}

impl Failure for AttestError {
    fn slug(&self) -> &'static str {
        match self {
            Self::NotConfigured => "kbs-not-configured",
            Self::AtServer { fault, .. } => fault.slug(),
            Self::NoTime => "kbs-timeout",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::NotConfigured => Class::Config,
            Self::AtServer { fault, .. } => fault.class(),
            Self::NoTime => Class::Unavailable,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::NotConfigured => "add kbs.servers and kbs.resource: cvm-unlock config --help",
            Self::AtServer { fault, .. } => fault.hint(),
            Self::NoTime => "",
        }
    }
}
