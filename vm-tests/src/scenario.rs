//! A scenario: one property or one attack, told as a few boots and sentences about them.

use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::lab::Lab;
use crate::progress::about;
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

/// Runs the named scenarios, or all of an extent, on `jobs` workers, and says how each ended. Returns how many passed
/// and failed.
///
/// # Errors
/// When a name is unknown.
pub fn run(lab: &Lab, extent: Extent, names: &[String], jobs: usize) -> Result<(usize, usize)> {
    let queue = Mutex::new(wanted(extent, names)?);
    let (passed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            // The lock is given back before the scenario runs.
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(scenario) = next else { break };
            let counter = if tell(lab, scenario) { &passed } else { &failed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(work);
        }
    });
    Ok((passed.into_inner(), failed.into_inner()))
}

/// How many scenarios run at once, if nobody says: each boots machines with one processor.
pub fn usual_jobs() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(4)
}

/// What shall run, in the order in which it begins: what takes longest first, so that nobody waits for it in the end.
fn wanted(extent: Extent, names: &[String]) -> Result<VecDeque<&'static Scenario>> {
    let known = || ALL.iter().chain(FULL);
    for name in names {
        if !known().any(|scenario| scenario.name == name) {
            bail!("No scenario is named `{name}`; see `vm-tests list`");
        }
    }
    let mut wanted: Vec<_> = match (extent, names) {
        (Extent::Usual, []) => ALL.iter().collect(),
        (Extent::Full, []) => known().collect(),
        (_, names) => known().filter(|scenario| names.iter().any(|name| scenario.name == name)).collect(),
    };
    let rank =
        |scenario: &&Scenario| LONG.iter().position(|name| scenario.name == *name).unwrap_or(LONG.len());
    wanted.sort_by_key(rank);
    Ok(wanted.into())
}

/// Runs one, and says how it ended: whether it passed. One that panics has failed, and the others go on.
fn tell(lab: &Lab, scenario: &Scenario) -> bool {
    println!("{}: {}", scenario.name, scenario.about);
    let started = Instant::now();
    let run = AssertUnwindSafe(|| about(scenario.name, || (scenario.run)(lab)));
    let verdict = catch_unwind(run).unwrap_or_else(|_| Err(anyhow!("It panicked")));
    let seconds = started.elapsed().as_secs_f64();
    match verdict {
        Ok(()) => {
            println!("{} ... ok ({seconds:.1} s)", scenario.name);
            true
        }
        Err(error) => {
            println!("{} ... FAILED ({seconds:.1} s)\n{error:#}", scenario.name);
            false
        }
    }
}

/// The scenarios of many boots.
const LONG: &[&str] = &[
    "writers-sid",
    "debian-sid",
    "writers",
    "debian-12",
    "null-cipher",
    "no-secure-boot",
    "stateless-tpm",
    "network-manager",
    "signed-policy",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_run_once_the_long_ones_first() {
        let names =
            |extent| wanted(extent, &[]).unwrap().iter().map(|scenario| scenario.name).collect::<Vec<_>>();
        let (usual, full) = (names(Extent::Usual), names(Extent::Full));
        assert_eq!(usual.first(), Some(&"writers"));
        assert_eq!((usual.len(), full.len()), (ALL.len(), ALL.len() + FULL.len()));
        for name in LONG {
            assert!(full.contains(name), "{name}");
        }
        let mut once = full.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), full.len());
    }

    #[test]
    fn an_unknown_name_is_an_error_and_a_known_one_is_run_alone() {
        assert!(wanted(Extent::Usual, &["no-such".to_owned()]).is_err());
        let one = wanted(Extent::Usual, &["writers-sid".to_owned()]).unwrap();
        assert_eq!(one.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), ["writers-sid"]);
    }
}
