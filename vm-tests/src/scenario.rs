//! A scenario: one property or one attack, shown by a few boots and sentences about them.

use anyhow::Result;

use crate::lab::Lab;

/// A named property, and how to show it.
#[derive(Debug)]
pub struct Scenario {
    /// Short name, for the command line and for the traces of its boots.
    pub name: &'static str,
    /// The property or attack, as a sentence.
    pub about: &'static str,
    /// Shows it, or fails with what happened instead.
    pub run: fn(&Lab) -> Result<()>,
}
