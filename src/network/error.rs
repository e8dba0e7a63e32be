//! Why there is no network: what was missing at the deadline, or what the system refused.

use std::io;

use thiserror::Error;

use super::outlook::Missing;
use crate::base::error::failures;

/// Why there is no network.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// It did not come up in time.
    #[error("The network did not come up in time: there is {0}")]
    Unavailable(Missing),
    /// Requesting the network failed.
    #[error("Asking for the network")]
    Ask(#[source] io::Error),
    /// Listening to the kernel's messages about addresses and routes failed.
    #[error("Listening for addresses and routes")]
    Listen(#[source] io::Error),
    /// Passing name servers on failed.
    #[error("Writing the name servers down")]
    NameServers(#[source] io::Error),
    /// Taking the network down failed.
    #[error("Taking the network down")]
    TearDown(#[source] io::Error),
}

failures! { NetworkError:
    Self::Unavailable(Missing::Card) => "network-unavailable", Unavailable,
        "the initramfs needs the card's driver: add_drivers of dracut";
    Self::Unavailable(Missing::Route | Missing::NameServer) => "network-unavailable", Unavailable,
        "the network's configuration comes from /etc/cvm-unlock/network where the image is built";
    Self::Ask(_) | Self::Listen(_) | Self::NameServers(_) | Self::TearDown(_) => "network-failed", Os, "";
}
