//! Why there is no key from any key broker: the last fault comes in, what the world sees of it goes out.

use thiserror::Error;

use super::fault::Fault;
use crate::base::error::failures;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum AttestError {
    /// The configuration has no member `kbs`.
    #[error("The configuration names no key broker")]
    NotConfigured,
    /// The last server that was asked.
    #[error("Key broker {server}")]
    AtServer {
        /// Its address.
        server: String,
        /// What went wrong.
        #[source]
        fault: Fault,
    },
    /// No server could be asked before the deadline.
    #[error("There was no time to ask a key broker")]
    NoTime,
}

failures! { AttestError:
    Self::NotConfigured => "kbs-not-configured", Config,
        "add kbs.servers and kbs.resource: cvm-unlock config --help";
    Self::AtServer { fault, .. } => from fault;
    Self::NoTime => "kbs-timeout", Unavailable, "";
}
