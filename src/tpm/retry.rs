//! Decides what to do after a TPM command failed, from the failure's class and the history of the command.
//! Pure.

use std::time::Duration;

use super::error::WAITED;
use crate::format::tpm2::rc::RcClass;

/// What happened to one command so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    /// Time since the command was first sent.
    pub elapsed: Duration,
    /// How often it was repeated after a transient answer.
    pub retries: u32,
    /// Whether strays were flushed for it.
    pub flushed: bool,
    /// Whether the TPM was started for it.
    pub started: bool,
    /// Whether there is no resource manager: a raw device, or an emulator.
    pub raw: bool,
    /// Whether we may start the TPM: an emulator that nobody else starts.
    pub startable: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// Send the command again after this time.
    Again(Duration),
    /// Flush what killed processes left in the TPM, then send the command again.
    FlushStrays,
    /// Start the TPM, then send the command again.
    Startup,
    /// Give up.
    GiveUp,
}

impl NextTry {
    /// Decides.
    #[must_use]
    pub fn after(class: RcClass, history: &History) -> Self {
        match class {
            RcClass::Transient => {
                let delay = FIRST_DELAY.saturating_mul(1 << history.retries.min(8)).min(LONGEST_DELAY);
                let fits = history.elapsed.saturating_add(delay) <= Duration::from_secs(WAITED);
                if fits { Self::Again(delay) } else { Self::GiveUp }
            }
            RcClass::Memory if history.raw && !history.flushed => Self::FlushStrays,
            RcClass::NotStarted if history.startable && !history.started => Self::Startup,
            _ => Self::GiveUp,
        }
    }
}

/// The library has already sent the command a few times without a pause.
const FIRST_DELAY: Duration = Duration::from_millis(5);
const LONGEST_DELAY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lockout_is_never_retried() {
        let history = History { raw: true, startable: true, ..History::default() };
        assert_eq!(NextTry::after(RcClass::Lockout, &history), NextTry::GiveUp);
        assert_eq!(NextTry::after(RcClass::PolicyFailed, &history), NextTry::GiveUp);
    }

    #[test]
    fn a_transient_answer_is_retried_until_the_deadline() {
        let mut history = History::default();
        while let NextTry::Again(delay) = NextTry::after(RcClass::Transient, &history) {
            assert!(delay >= FIRST_DELAY && delay <= LONGEST_DELAY);
            history.elapsed += delay;
            history.retries += 1;
        }
        assert!(history.elapsed > Duration::from_secs(4) && history.elapsed <= Duration::from_secs(WAITED));
    }

    #[test]
    fn strays_are_flushed_once_and_only_where_nobody_else_does() {
        let raw = History { raw: true, ..History::default() };
        assert_eq!(NextTry::after(RcClass::Memory, &raw), NextTry::FlushStrays);
        assert_eq!(NextTry::after(RcClass::Memory, &History { flushed: true, ..raw }), NextTry::GiveUp);
        assert_eq!(NextTry::after(RcClass::Memory, &History::default()), NextTry::GiveUp);
    }

    #[test]
    fn only_an_emulator_is_started_and_only_once() {
        let emulator = History { startable: true, ..History::default() };
        assert_eq!(NextTry::after(RcClass::NotStarted, &emulator), NextTry::Startup);
        assert_eq!(
            NextTry::after(RcClass::NotStarted, &History { started: true, ..emulator }),
            NextTry::GiveUp
        );
        assert_eq!(NextTry::after(RcClass::NotStarted, &History::default()), NextTry::GiveUp);
    }
}
