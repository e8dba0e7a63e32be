//! From arguments to a request: everything that a command needs, checked. Pure.

use std::ffi::OsString;

use super::action::Action;
use super::attest::Attest;
use super::bind::Bind;
use super::command::Command;
use super::common::Common;
use super::enroll::Enroll;
use super::given::Given;
use super::inspect::Inspect;
use super::unlock::Unlock;
use super::usage::{Mistake, UsageError};

/// What to do.
#[derive(Debug)]
pub(super) enum Request {
    Unlock(Unlock),
    Enroll(Box<Enroll>),
    Bind(Bind),
    Inspect(Inspect),
    Attest(Attest),
    Status,
    Config(Action),
    Fail,
    NetworkDown,
    NetworkMissing,
    /// The help of a command, or the overview.
    Help(Option<Command>),
    Version,
}

/// Parses the arguments, the program's name first.
///
/// # Errors
/// They make no sense.
pub(super) fn parse(argv: &[OsString]) -> Result<(Common, Request), UsageError> {
    let given = Given::sort(argv)?;
    let request = match given.command() {
        None => Request::Version,
        Some(Command::Unlock) => Request::Unlock(Unlock::parse(&given)?),
        Some(Command::Enroll) => Request::Enroll(Box::new(Enroll::parse(&given)?)),
        Some(Command::Bind) => Request::Bind(Bind::parse(&given)?),
        Some(Command::Inspect) => Request::Inspect(Inspect::parse(&given)?),
        Some(Command::Attest) => Request::Attest(Attest::parse(&given)?),
        Some(Command::Status) => Request::Status,
        Some(Command::Config) => Request::Config(action(&given)?),
        Some(Command::Fail) => Request::Fail,
        Some(Command::NetworkDown) => Request::NetworkDown,
        Some(Command::NetworkMissing) => Request::NetworkMissing,
        Some(Command::Help) => Request::Help(topic(&given)?),
    };
    Ok((Common::parse(&given), request))
}

fn action(given: &Given) -> Result<Action, UsageError> {
    let word = given.operand().ok_or_else(|| given.refuse(Mistake::Missing(Action::NEEDED)))?;
    let unknown = || given.refuse(Mistake::UnknownAction(word.display().to_string()));
    word.to_str().and_then(Action::named).ok_or_else(unknown)
}

/// The command that help is asked about. Help about `help` is the overview.
fn topic(given: &Given) -> Result<Option<Command>, UsageError> {
    let Some(word) = given.operand() else { return Ok(None) };
    let unknown = || given.refuse(Mistake::UnknownCommand(word.display().to_string()));
    let command = word.to_str().and_then(Command::named).ok_or_else(unknown)?;
    Ok(Some(command).filter(|command| *command != Command::Help))
}

#[cfg(test)]
mod tests;
