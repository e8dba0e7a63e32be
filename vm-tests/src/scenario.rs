//! A scenario: one property or one attack, told as a few boots and sentences about them.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::lab::Lab;
use crate::scenarios::{ALL, FULL};

/// A named property, and how it is shown.
#[derive(Debug)]
pub struct Scenario {
    /// Short name, for the command line.
    pub name: &'static str,
    /// The property or attack, as a sentence.
    pub about: &'static str,
    /// Shows it, or says what was there instead.
    pub run: fn(&Lab) -> Result<()>,
}

/// How much is run when no scenario is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What always has to hold.
    Usual,
    /// Also what depends on things that move from day to day.
    Full,
}

/// Runs the named scenarios, or all of an extent, and says how each ended. Returns how many passed and failed.
///
/// # Errors
/// When a name is unknown.
pub fn run(lab: &Lab, extent: Extent, names: &[String]) -> Result<(usize, usize)> {
    let known = || ALL.iter().chain(FULL);
    for name in names {
        if !known().any(|scenario| scenario.name == name) {
            bail!("No scenario is named `{name}`; see `vm-tests list`");
        }
    }
    let (mut passed, mut failed) = (0, 0);
    let wanted: Vec<_> = match (extent, names) {
        (Extent::Usual, []) => ALL.iter().collect(),
        (Extent::Full, []) => known().collect(),
        (_, names) => known().filter(|scenario| names.iter().any(|name| scenario.name == name)).collect(),
    };
    for scenario in wanted {
        println!("{}: {}", scenario.name, scenario.about);
        let started = Instant::now();
        let verdict = (scenario.run)(lab);
        let seconds = started.elapsed().as_secs_f64();
        match verdict {
            Ok(()) => {
                passed += 1;
                println!("{} ... ok ({seconds:.1} s)", scenario.name);
            }
            Err(error) => {
                failed += 1;
                println!("{} ... FAILED ({seconds:.1} s)\n{error:#}", scenario.name);
            }
        }
    }
    Ok((passed, failed))
}
