//! Runs scenarios on several workers, and says how each ended.

use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::artefacts::workbench::Workbench;
use crate::lab::Lab;
use crate::progress::about;
use crate::scenario::Scenario;
use crate::scenarios::{ALL, FULL};

/// How much is run when no scenario is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every scenario but those of the full extent.
    Usual,
    /// Also those on a distribution that changes from day to day.
    Full,
}

/// Runs the named scenarios, or all of an extent, on `jobs` workers, and says how each ended. Returns how
/// many passed and failed.
///
/// # Errors
/// When a name is unknown.
pub fn run(workbench: &Workbench, extent: Extent, names: &[String], jobs: usize) -> Result<(usize, usize)> {
    let queue = Mutex::new(wanted(extent, names)?);
    let (passed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            // The lock is given back before the scenario runs.
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(scenario) = next else { break };
            let counter = if tell(workbench, scenario) { &passed } else { &failed };
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

/// How many scenarios run at once by default: each boots machines with one processor.
pub fn usual_jobs() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(4)
}

/// The scenarios to run, in the order in which they begin. Those of the full extent come first: they take
/// longest.
fn wanted(extent: Extent, names: &[String]) -> Result<VecDeque<&'static Scenario>> {
    let known = || FULL.iter().chain(ALL);
    for name in names {
        if !known().any(|scenario| scenario.name == name) {
            bail!("No scenario is named `{name}`; see `vm-tests list`");
        }
    }
    Ok(match (extent, names) {
        (Extent::Usual, []) => ALL.iter().collect(),
        (Extent::Full, []) => known().collect(),
        (_, names) => known().filter(|scenario| names.iter().any(|name| scenario.name == name)).collect(),
    })
}

/// Runs one scenario and returns whether it passed. One that panics has failed, and the others go on.
fn tell(workbench: &Workbench, scenario: &Scenario) -> bool {
    println!("{}: {}", scenario.name, scenario.about);
    let started = Instant::now();
    let lab = Lab::new(workbench, scenario.name);
    let run = AssertUnwindSafe(|| about(scenario.name, || (scenario.run)(&lab)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_run_once() {
        let names =
            |extent| wanted(extent, &[]).unwrap().iter().map(|scenario| scenario.name).collect::<Vec<_>>();
        let (usual, full) = (names(Extent::Usual), names(Extent::Full));
        assert_eq!((usual.len(), full.len()), (ALL.len(), ALL.len() + FULL.len()));
        let mut once = full.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), full.len());
    }

    #[test]
    fn an_unknown_name_is_an_error_and_a_known_one_is_run_alone() {
        assert!(wanted(Extent::Usual, &["no-such".to_owned()]).is_err());
        let name = FULL[0].name;
        let one = wanted(Extent::Usual, &[name.to_owned()]).unwrap();
        assert_eq!(one.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), [name]);
    }
}
