//! Sorts a command line by the table of options: which command, with which argument and which options. What
//! the values mean is decided by the command's request, which reads them from here.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::command::Command;
use super::option::{Opt, Scope, Value};
use super::options;
use super::usage::{Mistake, UsageError};
use crate::policy::pcr_choice::{PcrChoice, PcrsError};
use crate::tpm::Device;

/// The parts of a command line. Each option is one that the command takes, and has a value if it needs one.
#[derive(Debug)]
pub(super) struct Given {
    /// None only where the version is asked for.
    command: Option<Command>,
    operand: Option<OsString>,
    /// In the order given: the last one counts. A switch has an empty value.
    options: Vec<(&'static Opt, OsString)>,
}

impl Given {
    /// Sorts the arguments, the program's name first. `--help` ends the line: what follows it is not looked
    /// at.
    ///
    /// # Errors
    /// No or no known command; an option or argument that it does not take; a value too few or too many.
    pub(super) fn sort(argv: &[OsString]) -> Result<Self, UsageError> {
        let mut parser = Parser::from_iter(argv);
        let mut given = Self { command: None, operand: None, options: Vec::new() };
        loop {
            let argument = parser.next().map_err(|error| given.needless_value(error))?;
            let (option, written) = match argument {
                None => break,
                Some(Arg::Value(word)) => {
                    given.add_word(word)?;
                    continue;
                }
                Some(Arg::Long(name)) => (options::long(name), format!("--{name}")),
                Some(Arg::Short(letter)) => (options::short(letter), format!("-{letter}")),
            };
            let option = option.ok_or_else(|| given.refuse(Mistake::UnknownOption(written)))?;
            if option.is(&options::HELP) && given.turn_to_help() {
                return Ok(given);
            }
            given.admit(option)?;
            let value = match option.value {
                Value::None => OsString::new(),
                Value::Path(_) | Value::Text { .. } => {
                    parser.value().map_err(|_| given.refuse(Mistake::NoValue(option)))?
                }
            };
            given.options.push((option, value));
        }
        match given.command {
            None if !given.has(&options::VERSION) => Err(given.refuse(Mistake::NoCommand)),
            _ => Ok(given),
        }
    }

    /// The command; None asks for the version.
    pub(super) const fn command(&self) -> Option<Command> {
        self.command
    }

    /// Whether `option` is there.
    pub(super) fn has(&self, option: &Opt) -> bool {
        self.values(option).next().is_some()
    }

    /// The value of an option that takes a path.
    pub(super) fn path(&self, option: &Opt) -> Option<PathBuf> {
        self.values(option).next_back().map(PathBuf::from)
    }

    /// The value of an option that takes text, by way of `parse`.
    ///
    /// # Errors
    /// `parse` does not take it, or it is not UTF-8.
    pub(super) fn text<T>(
        &self,
        option: &'static Opt,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, UsageError> {
        self.parsed(option, |text| parse(text).ok_or(None))
    }

    /// The value of an option that takes PCRs.
    ///
    /// # Errors
    /// Not PCRs: the error says which part of it.
    pub(super) fn pcrs(&self, option: &'static Opt) -> Result<Option<PcrChoice>, UsageError> {
        self.parsed(option, |text| text.parse().map_err(Some))
    }

    /// The TPM to use.
    ///
    /// # Errors
    /// `--tpm2-device` names none.
    pub(super) fn tpm(&self) -> Result<Device, UsageError> {
        Ok(self.text(&options::TPM2_DEVICE, |text| text.parse().ok())?.unwrap_or_default())
    }

    /// The argument that is not an option, if there is one.
    pub(super) fn operand(&self) -> Option<&OsStr> {
        self.operand.as_deref()
    }

    /// The volume.
    ///
    /// # Errors
    /// None is named.
    pub(super) fn volume(&self) -> Result<PathBuf, UsageError> {
        let missing = || self.refuse(Mistake::Missing("A DEVICE or IMAGE"));
        self.operand().map(PathBuf::from).ok_or_else(missing)
    }

    /// A mistake on this command line.
    pub(super) fn refuse(&self, mistake: Mistake) -> UsageError {
        UsageError { command: self.command, mistake }
    }

    /// The values of `option`, in order.
    fn values(&self, option: &Opt) -> impl DoubleEndedIterator<Item = &OsStr> {
        debug_assert!(self.takes(option), "--{} is read, but not taken", option.name);
        let found = self.options.iter().filter(|(given, _)| given.is(option));
        found.map(|(_, value)| value.as_os_str())
    }

    /// The last value of `option`. Those before it must be well formed, too.
    fn parsed<T>(
        &self,
        option: &'static Opt,
        parse: impl Fn(&str) -> Result<T, Option<PcrsError>>,
    ) -> Result<Option<T>, UsageError> {
        let mut last = None;
        for value in self.values(option) {
            let parsed = value.to_str().ok_or(None).and_then(&parse);
            let mistake = |source| Mistake::Value { option, given: value.display().to_string(), source };
            last = Some(parsed.map_err(|source| self.refuse(mistake(source)))?);
        }
        Ok(last)
    }

    fn takes(&self, option: &Opt) -> bool {
        match option.scope {
            Scope::Anywhere(_) => true,
            Scope::Alone(_) => self.command.is_none(),
            Scope::After(_) => self.command.is_some_and(|command| option.used_by(command).is_some()),
        }
    }

    /// The name of the command, or its argument.
    fn add_word(&mut self, word: OsString) -> Result<(), UsageError> {
        match self.command {
            None if !self.has(&options::VERSION) => {
                let named = word.to_str().and_then(Command::named);
                let unknown = || self.refuse(Mistake::UnknownCommand(word.display().to_string()));
                self.command = Some(named.ok_or_else(unknown)?);
            }
            Some(command) if command.operand().is_some() && self.operand.is_none() => {
                self.operand = Some(word);
            }
            _ => return Err(self.refuse(Mistake::Excess(word.display().to_string()))),
        }
        Ok(())
    }

    /// Takes `--help` as the command `help`, about the command that is there. True if there was one, or the
    /// version: then nothing more is to be read. Otherwise a command may follow.
    fn turn_to_help(&mut self) -> bool {
        let before = self.command.replace(Command::Help);
        if let Some(command) = before
            && command != Command::Help
        {
            self.operand = Some(command.name().into());
        }
        before.is_some() || self.options.iter().any(|(option, _)| option.is(&options::VERSION))
    }

    fn admit(&self, option: &'static Opt) -> Result<(), UsageError> {
        if self.takes(option) {
            Ok(())
        } else if option.commands().next().is_some() {
            Err(self.refuse(Mistake::Misplaced(option)))
        } else {
            Err(self.refuse(Mistake::UnknownOption(option.synopsis())))
        }
    }

    fn needless_value(&self, error: lexopt::Error) -> UsageError {
        self.refuse(match error {
            lexopt::Error::UnexpectedValue { option, .. } => Mistake::NeedlessValue(option),
            other => Mistake::Syntax(other.to_string()),
        })
    }
}
