//! Decides whether a key broker can be reached. Pure.

use std::fmt;

/// The facts found in one look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// There is a network card.
    pub card: bool,
    /// The address of a key broker can be routed to.
    pub server: bool,
    /// A key broker has a name that must be resolved.
    pub named: bool,
    /// There is a name server.
    pub name_server: bool,
    /// A name server can be routed to.
    pub resolver: bool,
}

/// Whether connecting can work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Connecting is worth a try.
    Ready,
    /// It is not yet: something is missing.
    Missing(Missing),
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A network card.
    Card,
    /// An address and a route, to a key broker or to a name server.
    Route,
    /// A name server, if the key brokers have names only.
    NameServer,
}

impl Facts {
    /// Decides.
    #[must_use]
    pub const fn outlook(self) -> Outlook {
        match self {
            Self { server: true, .. } | Self { named: true, resolver: true, .. } => Outlook::Ready,
            Self { card: false, .. } => Outlook::Missing(Missing::Card),
            Self { named: true, name_server: false, .. } => Outlook::Missing(Missing::NameServer),
            _ => Outlook::Missing(Missing::Route),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Card => "no network card",
            Self::Route => "no address, or no route to a server",
            Self::NameServer => "no address, or no name server",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Facts =
        Facts { card: true, server: false, named: false, name_server: false, resolver: false };

    #[test]
    fn a_server_or_a_name_server_that_can_be_routed_to_is_enough() {
        assert_eq!(Facts { server: true, ..Facts::default() }.outlook(), Outlook::Ready);
        let resolver = Facts { named: true, name_server: true, resolver: true, ..CARD };
        assert_eq!(resolver.outlook(), Outlook::Ready);
        assert_eq!(Facts { server: true, named: true, ..CARD }.outlook(), Outlook::Ready);
    }

    #[test]
    fn a_name_server_is_of_no_use_for_addresses() {
        let facts = Facts { name_server: true, resolver: true, ..CARD };
        assert_eq!(facts.outlook(), Outlook::Missing(Missing::Route));
    }

    #[test]
    fn what_is_missing_first_is_named() {
        assert_eq!(Facts { named: true, ..Facts::default() }.outlook(), Outlook::Missing(Missing::Card));
        assert_eq!(CARD.outlook(), Outlook::Missing(Missing::Route));
        assert_eq!(Facts { named: true, ..CARD }.outlook(), Outlook::Missing(Missing::NameServer));
        let unreachable = Facts { named: true, name_server: true, ..CARD };
        assert_eq!(unreachable.outlook(), Outlook::Missing(Missing::Route));
    }
}
