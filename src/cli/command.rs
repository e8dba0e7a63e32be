//! The names of the commands, in the order in which `--help` lists them.

use std::fmt;

/// A command. What it does is said in its page of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Enroll,
    Unlock,
    Bind,
    Inspect,
    Status,
    Attest,
    Config,
    Fail,
    NetworkDown,
    NetworkMissing,
    Help,
}

impl Command {
    pub(super) const ALL: &[Self] = &[
        Self::Enroll,
        Self::Unlock,
        Self::Bind,
        Self::Inspect,
        Self::Status,
        Self::Attest,
        Self::Config,
        Self::Fail,
        Self::NetworkDown,
        Self::NetworkMissing,
        Self::Help,
    ];

    /// As it is written on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Unlock => "unlock",
            Self::Bind => "bind",
            Self::Inspect => "inspect",
            Self::Status => "status",
            Self::Attest => "attest",
            Self::Config => "config",
            Self::Fail => "fail",
            Self::NetworkDown => "network-down",
            Self::NetworkMissing => "network-missing",
            Self::Help => "help",
        }
    }

    /// The command of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|command| command.name() == name)
    }

    /// The one argument that is not an option, if the command takes any.
    pub(super) const fn operand(self) -> Option<&'static str> {
        match self {
            Self::Enroll | Self::Unlock | Self::Bind | Self::Inspect => Some("DEVICE|IMAGE"),
            Self::Config => Some("ACTION"),
            Self::Help => Some("COMMAND"),
            Self::Status | Self::Attest | Self::Fail | Self::NetworkDown | Self::NetworkMissing => None,
        }
    }

    /// Where to read about it.
    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Enroll => "cvm-unlock enroll --help",
            Self::Unlock => "cvm-unlock unlock --help",
            Self::Bind => "cvm-unlock bind --help",
            Self::Inspect => "cvm-unlock inspect --help",
            Self::Status => "cvm-unlock status --help",
            Self::Attest => "cvm-unlock attest --help",
            Self::Config => "cvm-unlock config --help",
            Self::Fail => "cvm-unlock fail --help",
            Self::NetworkDown => "cvm-unlock network-down --help",
            Self::NetworkMissing => "cvm-unlock network-missing --help",
            Self::Help => "cvm-unlock --help",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_and_hints_at_its_own_help() {
        for command in Command::ALL {
            assert_eq!(Command::named(command.name()), Some(*command));
            if *command != Command::Help {
                assert_eq!(command.hint(), format!("cvm-unlock {command} --help"));
            }
        }
    }
}
