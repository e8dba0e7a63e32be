//! The versions of systemd-cryptenroll that write tokens here: the commands that enrol on the host against
//! swtpm, and what each version can write.

use std::process::Command;

use anyhow::Result;

use crate::artefacts::cache::Cache;
use crate::artefacts::suite::Suite;
use crate::artefacts::tree::{self, Tree};

/// A version of systemd-cryptenroll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Debian 12: a primary key made anew for each use.
    V252,
    /// The backports of Debian 12: the first with a persistent storage root key.
    V254,
    /// Debian 13.
    V257,
    /// Debian sid, 262 or later: the first with policy references.
    Sid,
}

/// What is particular about a token's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PCR 7 by value.
    Literal,
    /// PCR 11 by signature.
    Signed,
    /// Both.
    Both,
    /// PCR 7 by value, below the persistent key [`PARENT`].
    OwnParent,
    /// PCR 11 by signature with the policy reference [`REFERENCE`].
    Reference,
}

impl Writer {
    /// Name for cells of the matrix.
    pub fn name(self) -> &'static str {
        match self {
            Self::V252 => "252",
            Self::V254 => "254",
            Self::V257 => "257",
            Self::Sid => "sid",
        }
    }

    /// The kinds that this version can write.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::V252 | Self::V254 => &[Kind::Literal, Kind::Signed, Kind::Both],
            Self::V257 => &[Kind::Literal, Kind::Signed, Kind::Both, Kind::OwnParent],
            Self::Sid => &[Kind::Literal, Kind::Signed, Kind::Both, Kind::OwnParent, Kind::Reference],
        }
    }

    /// The tree with this version.
    ///
    /// # Errors
    /// When mmdebstrap fails.
    pub fn tree(self, cache: &Cache) -> Result<Tree> {
        match self {
            Self::V252 => tree::writer(cache, Suite::Bookworm),
            Self::V254 => tree::backports(cache),
            Self::V257 => tree::writer(cache, Suite::Trixie),
            Self::Sid => tree::writer(cache, Suite::Sid),
        }
    }

    /// The program, told not to look for policies and signatures of its own.
    ///
    /// # Errors
    /// When mmdebstrap fails.
    pub fn command(self, cache: &Cache) -> Result<Command> {
        let mut command = self.tree(cache)?.command("systemd-cryptenroll");
        command.arg("--tpm2-signature=");
        if matches!(self, Self::V257 | Self::Sid) {
            command.arg("--tpm2-pcrlock=");
        }
        Ok(command)
    }
}

impl Kind {
    /// Name for cells of the matrix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Signed => "signed",
            Self::Both => "both",
            Self::OwnParent => "own-parent",
            Self::Reference => "reference",
        }
    }

    /// Whether PCR 7 is bound by value.
    pub fn is_literal(self) -> bool {
        matches!(self, Self::Literal | Self::Both | Self::OwnParent)
    }

    /// Whether PCR 11 is bound by signature.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Signed | Self::Both | Self::Reference)
    }

    /// Options that only this kind has.
    pub fn options(self) -> Vec<String> {
        match self {
            Self::OwnParent => vec![format!("--tpm2-seal-key-handle={PARENT}")],
            Self::Reference => vec![format!("--tpm2-public-key-policyref={REFERENCE}")],
            Self::Literal | Self::Signed | Self::Both => Vec::new(),
        }
    }
}

/// A persistent handle in the owner's range that systemd does not use by default.
pub const PARENT: &str = "0x81000042";
/// What ukify and systemd-stub of systemd 262 call the signatures for the initrd.
pub const REFERENCE: &str = "initrd";
