//! How an option is declared: its name, its value, the commands that take it and what it does there.

use super::command::Command;

/// An option.
#[derive(Debug)]
pub(super) struct Opt {
    /// Without the dashes.
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) value: Value,
    pub(super) scope: Scope,
}

/// What follows the option's name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// Nothing: the option is a switch.
    None,
    /// The path of a file or directory, by this name in the help.
    Path(&'static str),
    /// Text of a certain form.
    Text {
        /// Its name in the help.
        name: &'static str,
        /// What it has to be; completes the sentence "the option takes".
        form: &'static str,
    },
}

/// Where an option can stand.
#[derive(Debug)]
pub(super) enum Scope {
    /// Before or after any command; with its help.
    Anywhere(&'static str),
    /// In the place of a command; with its help.
    Alone(&'static str),
    /// After certain commands.
    After(&'static [Use]),
}

/// What an option does for some commands.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) commands: &'static [Command],
    /// The heading under which the help lists the option.
    pub(super) group: &'static str,
    pub(super) help: &'static str,
}

impl Opt {
    /// Whether both are the same one.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// The text for `command`, if it takes the option after its name.
    pub(super) fn used_by(&self, command: Command) -> Option<&'static Use> {
        match self.scope {
            Scope::After(uses) => uses.iter().find(|used| used.commands.contains(&command)),
            Scope::Anywhere(_) | Scope::Alone(_) => None,
        }
    }

    /// The commands that have it as an option of their own.
    pub(super) fn commands(&self) -> impl Iterator<Item = Command> {
        Command::ALL.iter().copied().filter(|command| self.used_by(*command).is_some())
    }

    /// As it is written on the command line: `--tpm2-pcrs=PCRS`.
    pub(super) fn synopsis(&self) -> String {
        match self.value {
            Value::None => format!("--{}", self.name),
            Value::Path(name) | Value::Text { name, .. } => format!("--{}={name}", self.name),
        }
    }
}
