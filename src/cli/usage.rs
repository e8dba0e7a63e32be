//! Why a command line makes no sense. Arguments are the operator's: mistakes are explained, nothing is
//! guessed.

use std::error::Error;
use std::fmt;

use super::command::Command;
use super::option::{Opt, Value};
use super::options;
use crate::base::error::{Class, Failure};
use crate::policy::pcr_choice::PcrsError;

/// A mistake on the command line, and the command that it is about.
#[derive(Debug)]
pub(super) struct UsageError {
    /// None where no command was recognised.
    pub(super) command: Option<Command>,
    pub(super) mistake: Mistake,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mistake {
    #[error("No command is given")]
    NoCommand,
    #[error("There is no command '{0}'")]
    UnknownCommand(String),
    #[error("There is no option {0}")]
    UnknownOption(String),
    /// An option of other commands.
    #[error("There is no option --{} here; it belongs to {}", .0.name, owners(.0))]
    Misplaced(&'static Opt),
    #[error("'{0}' is one argument too many")]
    Excess(String),
    #[error("{} lacks its value", .0.synopsis())]
    NoValue(&'static Opt),
    /// A switch with a value.
    #[error("{0} takes no value")]
    NeedlessValue(String),
    /// A value that is not what it has to be.
    #[error("--{} takes {}, not '{given}'", option.name, form(option))]
    Value {
        option: &'static Opt,
        given: String,
        /// Which part of it is wrong, where that is known.
        source: Option<PcrsError>,
    },
    /// A bank that is none, or not that of the PCRs' values.
    #[error("--tpm2-pcr-bank takes {}", form(&options::TPM2_PCR_BANK))]
    Bank(#[from] PcrsError),
    /// Something without which the command means nothing.
    #[error("{0} is needed")]
    Missing(&'static str),
    #[error("{0} and {1} exclude each other")]
    Contradiction(&'static str, &'static str),
    #[error("There is no action '{0}'")]
    UnknownAction(String),
    /// A real unlock finds the volume and signatures itself.
    #[error("A volume or a signature file can be named for a dry run only")]
    NotDry,
    /// What ends the machine, or its network, is the initramfs's alone.
    #[error("This runs inside an initramfs only")]
    NotInInitramfs,
    /// What the tokenizer reports otherwise.
    #[error("{0}")]
    Syntax(String),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(command) = self.command {
            write!(f, "{command}: ")?;
        }
        self.mistake.fmt(f)
    }
}

impl Error for UsageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.mistake.source()
    }
}

impl Failure for UsageError {
    fn slug(&self) -> &'static str {
        match &self.mistake {
            Mistake::Bank(error) => error.slug(),
            _ => "usage",
        }
    }

    fn class(&self) -> Class {
        Class::Usage
    }

    fn hint(&self) -> &'static str {
        match (&self.mistake, self.command) {
            (Mistake::NotDry, _) => "Add --dry-run; what a boot unlocks is found by its partition type",
            (_, Some(command)) => command.hint(),
            (_, None) => "cvm-unlock --help",
        }
    }
}

/// The commands that take an option, in words.
fn owners(option: &Opt) -> String {
    let names: Vec<_> = option.commands().map(Command::name).collect();
    names.join(", ")
}

const fn form(option: &Opt) -> &'static str {
    match option.value {
        Value::None => "no value",
        Value::Path(_) => "a path",
        Value::Text { form, .. } => form,
    }
}
