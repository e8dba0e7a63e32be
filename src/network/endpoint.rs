//! A host and port to reach.

/// A host by name or address, and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name, or address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}
