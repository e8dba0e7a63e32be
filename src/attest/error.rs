//! Why no key broker released the key: the last fault, and what is reported of it.

use thiserror::Error;

use super::fault::Fault;
use crate::base::error::failures;

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

failures! { AttestError:
    Self::NotConfigured => "kbs-not-configured", Config,
        "add kbs.servers and kbs.resource: cvm-unlock config --help";
    Self::AtServer { fault, .. } => from fault;
    Self::NoTime => "kbs-timeout", Unavailable, "";
}
