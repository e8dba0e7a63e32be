//! Asks the key brokers in turn, until one releases the key, one denies it, or the time runs out. Decides the
//! order, the pauses and the end; knows nothing about the request.

use std::time::{Duration, Instant};

use super::error::AttestError;
use super::fault::{Fault, NextServer};
use super::server::Server;
use crate::base::error::{Failure, chain};

/// The remaining time.
pub(super) trait Clock {
    /// Time until the deadline; zero after it.
    fn left(&self) -> Duration;
    /// Waits.
    fn sleep(&mut self, pause: Duration);
}

/// The system's clock.
pub(super) struct Until(pub(super) Instant);

impl Clock for Until {
    fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    fn sleep(&mut self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

/// Asks `servers` in order, round after round. Each gets a share of the remaining time, so that one that
/// accepts a connection and stays silent does not use up the time of the others.
///
/// # Errors
/// The answer that is final, or else the last fault.
pub(super) fn in_turn<T>(
    servers: &[Server],
    clock: &mut dyn Clock,
    mut ask: impl FnMut(&Server, Duration) -> Result<T, Fault>,
) -> Result<T, AttestError> {
    let mut candidates: Vec<&Server> = servers.iter().collect();
    let mut pause = FIRST_PAUSE;
    let mut last = AttestError::NoTime;
    loop {
        let mut again = Vec::new();
        let mut waiting = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        for server in candidates {
            let share = clock.left() / waiting.max(1);
            waiting = waiting.saturating_sub(1);
            if share.is_zero() {
                return Err(last);
            }
            // The caller reports the last one.
            if let AttestError::AtServer { fault, .. } = &last {
                log::warn!("{} [{}]", chain(&last), fault.slug());
            }
            let fault = match ask(server, share) {
                Ok(wanted) => return Ok(wanted),
                Err(fault) => fault,
            };
            let next = fault.next();
            let over = fault.is_timeout() && clock.left().is_zero();
            if says_more(&fault, over, &last) {
                last = AttestError::AtServer { server: server.url.to_string(), fault };
            }
            match next {
                NextServer::GiveUp => return Err(last),
                NextServer::OtherServer => {}
                NextServer::Retry => again.push(server),
            }
        }
        if again.is_empty() || clock.left() <= pause {
            return Err(last);
        }
        candidates = again;
        clock.sleep(pause);
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Whether a fault tells the caller more than the last one. A timeout (`over`) says less than the fault
/// before it; an unreachable key broker says less than an answer about the key.
fn says_more(fault: &Fault, over: bool, last: &AttestError) -> bool {
    match last {
        AttestError::AtServer { fault: last, .. } if last.is_about_the_key() => {
            !over && fault.next() != NextServer::Retry
        }
        AttestError::AtServer { .. } => !over,
        AttestError::NotConfigured | AttestError::NoTime => true,
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::fault::Exchange;
    use crate::attest::http::HttpError;
    use serde_json::json;

    struct Simulated {
        left: Duration,
        pauses: Vec<Duration>,
    }

    impl Clock for Simulated {
        fn left(&self) -> Duration {
            self.left
        }

        fn sleep(&mut self, pause: Duration) {
            self.left -= pause;
            self.pauses.push(pause);
        }
    }

    fn servers(count: usize) -> Vec<Server> {
        let server = |number| json!({"url": format!("https://kbs{number}"), "spki": "00".repeat(32)});
        (0..count).map(|number| serde_json::from_value(server(number)).unwrap()).collect()
    }

    fn unreachable() -> Fault {
        let source = HttpError::Unreachable(std::io::ErrorKind::ConnectionRefused.into());
        Fault::Http { step: Exchange::Challenge, source }
    }

    fn denied() -> Fault {
        Fault::Denied { detail: String::new() }
    }

    fn run(
        count: usize,
        seconds: u64,
        answer: impl Fn(usize, &str) -> Result<(), Fault>,
    ) -> (Result<(), AttestError>, Vec<String>, Vec<Duration>) {
        let mut clock = Simulated { left: Duration::from_secs(seconds), pauses: Vec::new() };
        let mut asked = Vec::new();
        let outcome = in_turn(&servers(count), &mut clock, |server, _| {
            asked.push(server.url.to_string());
            answer(asked.len(), server.url.as_str())
        });
        (outcome, asked, clock.pauses)
    }

    #[test]
    fn a_denial_is_final_and_nobody_else_is_asked() {
        let (outcome, asked, pauses) = run(2, 60, |_, _| Err(denied()));
        assert_eq!(outcome.unwrap_err().slug(), "kbs-denied");
        assert_eq!((asked.len(), pauses.len()), (1, 0));
    }

    #[test]
    fn a_dead_server_is_passed_over_at_once() {
        let (outcome, asked, pauses) =
            run(2, 60, |_, url| if url.ends_with('0') { Err(unreachable()) } else { Ok(()) });
        assert!(outcome.is_ok() && pauses.is_empty());
        assert_eq!(asked, ["https://kbs0", "https://kbs1"]);
    }

    #[test]
    fn the_network_is_tried_again_with_growing_pauses_until_the_deadline() {
        let (outcome, asked, pauses) = run(1, 60, |_, _| Err(unreachable()));
        assert_eq!(outcome.unwrap_err().slug(), "kbs-unreachable");
        assert!(asked.len() > 5 && asked.len() < 20, "{}", asked.len());
        assert!(
            pauses.windows(2).all(|pair| pair[0] <= pair[1]) && pauses.iter().all(|p| *p <= LONGEST_PAUSE)
        );
        let (outcome, _, _) = run(1, 60, |attempt, _| if attempt == 4 { Ok(()) } else { Err(unreachable()) });
        assert!(outcome.is_ok());
    }

    #[test]
    fn a_server_that_lies_is_not_asked_twice() {
        let redirect = || Fault::Http { step: Exchange::Challenge, source: HttpError::Redirect(302) };
        let (outcome, asked, _) = run(1, 60, |_, _| Err(redirect()));
        assert_eq!((outcome.unwrap_err().slug(), asked.len()), ("kbs-redirect", 1));
        let (_, asked, _) =
            run(2, 5, |_, url| Err(if url.ends_with('0') { redirect() } else { unreachable() }));
        assert_eq!(asked.iter().filter(|url| url.ends_with('0')).count(), 1);
        assert!(asked.iter().filter(|url| url.ends_with('1')).count() > 1);
    }

    #[test]
    fn a_server_that_says_nothing_uses_up_its_share_only() {
        let clock = std::cell::RefCell::new(Duration::from_secs(60));
        struct Shared<'a>(&'a std::cell::RefCell<Duration>);
        impl Clock for Shared<'_> {
            fn left(&self) -> Duration {
                *self.0.borrow()
            }
            fn sleep(&mut self, _pause: Duration) {}
        }
        let outcome = in_turn(&servers(2), &mut Shared(&clock), |server, share| {
            if server.url.as_str().ends_with('1') {
                return Ok(share);
            }
            *clock.borrow_mut() -= share;
            Err(Fault::Http { step: Exchange::Attest, source: HttpError::TimedOut(String::new()) })
        });
        assert_eq!(outcome.unwrap(), Duration::from_secs(30));
    }

    #[test]
    fn an_answer_about_the_key_is_not_forgotten_over_a_server_that_is_down() {
        let missing = || Fault::Missing { path: String::new(), detail: String::new() };
        for answering in ['0', '1'] {
            let answer = |_, url: &str| Err(if url.ends_with(answering) { missing() } else { unreachable() });
            let (outcome, _, _) = run(2, 5, answer);
            assert_eq!(outcome.unwrap_err().slug(), "kbs-resource-missing", "server {answering}");
        }
    }

    #[test]
    fn without_time_nobody_is_asked() {
        let (outcome, asked, _) = run(1, 0, |_, _| Ok(()));
        assert_eq!((outcome.unwrap_err().slug(), asked.len()), ("kbs-timeout", 0));
    }
}
