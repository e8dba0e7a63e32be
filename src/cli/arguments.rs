//! argv to `Command`. Arguments are the operator's: mistakes are explained, nothing is guessed.

use std::ffi::OsString;

use lexopt::prelude::*;

use super::{Command, Common, attest, bind, config, enroll, help, inspect, unlock};
use crate::base::error::{Class, Failure};

/// Parses the arguments, the program's name first.
pub(super) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<(Common, Command), UsageError> {
    let mut parser = lexopt::Parser::from_iter(argv);
    let mut common = Common::default();
    let mut command = None;
    while let Some(argument) = parser.next()? {
        match (&mut command, argument) {
            (_, Long("root")) => common.root = parser.value()?.into(),
            (_, Long("config")) => common.config = Some(parser.value()?.into()),
            (_, Long("json")) => common.json = true,
            (None, Short('h') | Long("help")) => command = Some(Command::Help(help::Topic::Overview)),
            (Some(given), Short('h') | Long("help")) => {
                *given = Command::Help(help::Topic::of(given));
                return Ok((common, command.unwrap_or(Command::Version)));
            }
            (None, Short('V') | Long("version")) => command = Some(Command::Version),
            (None, Value(name)) => command = Some(named(&name.string()?)?),
            (Some(Command::Unlock(options)), argument) => match argument {
                Long("dry-run") => options.dry_run = true,
                Long("tpm2-signature") => options.signature = Some(parser.value()?.into()),
                Long("tpm2-device") => options.tpm = parser.value()?.parse_with(str::parse)?,
                Value(path) if options.volume.is_none() => options.volume = Some(path.into()),
                other => return Err(other.unexpected().into()),
            },
            (Some(Command::Enroll(options)), argument) => match argument {
                Long("tpm2-device") => options.tpm = parser.value()?.parse_with(str::parse)?,
                Long("tpm2-pcrs") => options.pcrs = Some(parser.value()?.parse_with(str::parse)?),
                Long("tpm2-pcr-bank") => options.bank = Some(parser.value()?.string()?),
                Long("tpm2-public-key") => options.public_key = Some(parser.value()?.into()),
                Long("tpm2-public-key-pcrs") => {
                    options.public_key_pcrs = Some(parser.value()?.parse_with(str::parse)?);
                }
                Long("tpm2-signature") => options.signature = Some(parser.value()?.into()),
                Long("tpm2-seal-key-handle") => {
                    options.parent = Some(enroll::handle(&parser.value()?.string()?)?)
                }
                Long("private-db") => options.private_db = true,
                Long("sign-key") => options.sign_key = Some(parser.value()?.into()),
                Long("unlock-key-file") => options.key_file = Some(parser.value()?.into()),
                Long("unlock-tpm2") => options.unlock_tpm = true,
                Long("kbs") => options.kbs = Some(parser.value()?.into()),
                Long("kbs-path") => options.kbs_path = Some(enroll::resource(&parser.value()?.string()?)?),
                Long("recovery-key") => options.recovery = true,
                Long("wipe-slot") => options.wipe = parser.value()?.parse_with(str::parse)?,
                Value(path) if options.volume.is_none() => options.volume = Some(path.into()),
                other => return Err(other.unexpected().into()),
            },
            (Some(Command::Bind(options)), argument) => match argument {
                Long("tpm2-device") => options.tpm = parser.value()?.parse_with(str::parse)?,
                Long("tpm2-signature") => options.signature = Some(parser.value()?.into()),
                Long("token-id") => options.token = Some(parser.value()?.parse()?),
                Long("sign-key") => options.sign_key = Some(parser.value()?.into()),
                Value(path) if options.volume.is_none() => options.volume = Some(path.into()),
                other => return Err(other.unexpected().into()),
            },
            (Some(Command::Inspect(options)), argument) => match argument {
                Long("unlock-key-file") => options.key_file = Some(parser.value()?.into()),
                Value(path) if options.volume.is_none() => options.volume = Some(path.into()),
                other => return Err(other.unexpected().into()),
            },
            (Some(Command::Attest(options)), argument) => match argument {
                Long("tpm2-device") => options.tpm = parser.value()?.parse_with(str::parse)?,
                Long("show-ak") => options.show_key = true,
                Long("connect") => options.connect = true,
                other => return Err(other.unexpected().into()),
            },
            (Some(Command::Config(action)), Value(name)) => *action = config::Action::named(&name.string()?)?,
            (Some(Command::Help(topic)), Value(name)) => *topic = help::Topic::of(&named(&name.string()?)?),
            (_, other) => return Err(other.unexpected().into()),
        }
    }
    let command = command.ok_or(UsageError::NoCommand)?;
    check(&command)?;
    Ok((common, command))
}

fn named(name: &str) -> Result<Command, UsageError> {
    match name {
        "unlock" => Ok(Command::Unlock(unlock::Options::default())),
        "enroll" => Ok(Command::Enroll(Box::default())),
        "bind" => Ok(Command::Bind(bind::Options::default())),
        "inspect" => Ok(Command::Inspect(inspect::Options::default())),
        "attest" => Ok(Command::Attest(attest::Options::default())),
        "status" => Ok(Command::Status),
        "config" => Ok(Command::Config(config::Action::Unnamed)),
        "fail" => Ok(Command::Fail),
        "network-down" => Ok(Command::NetworkDown),
        "network-missing" => Ok(Command::NetworkMissing),
        "help" => Ok(Command::Help(help::Topic::Overview)),
        other => Err(UsageError::UnknownCommand(other.to_owned())),
    }
}

/// What a command cannot do without.
fn check(command: &Command) -> Result<(), UsageError> {
    match command {
        Command::Unlock(options)
            if (options.volume.is_some() || options.signature.is_some()) && !options.dry_run =>
        {
            Err(UsageError::NotDry)
        }
        Command::Enroll(options) => options.check(),
        Command::Bind(bind::Options { volume: None, .. })
        | Command::Inspect(inspect::Options { volume: None, .. }) => {
            Err(UsageError::Missing("a DEVICE or IMAGE"))
        }
        Command::Attest(attest::Options { show_key: true, connect: true, .. }) => {
            Err(UsageError::Contradiction("--show-ak and --connect"))
        }
        Command::Config(config::Action::Unnamed) => Err(UsageError::Missing(config::ACTIONS)),
        _ => Ok(()),
    }
}

/// Why a command line makes no sense, or its answer could not be given.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// No command.
    #[error("No command given")]
    NoCommand,
    /// Not a command of ours.
    #[error("There is no command '{0}'")]
    UnknownCommand(String),
    /// Not an action of `config`.
    #[error("There is no 'config {0}'")]
    UnknownAction(String),
    /// A part without which the command means nothing.
    #[error("The command needs {0}")]
    Missing(&'static str),
    /// Two options that exclude each other.
    #[error("{0} exclude each other")]
    Contradiction(&'static str),
    /// A named volume or signature file is for dry runs: a real unlock finds them itself.
    #[error("A volume or a signature file can be named for a dry run only")]
    NotDry,
    /// An option that is not known, lacks its value or has a bad one.
    #[error("Parsing the command line")]
    Parse(#[from] lexopt::Error),
    /// The key file.
    #[error("Reading the key file {}", path.display())]
    KeyFile {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing in it, or far too much.
    #[error("The key file {} is empty or larger than 64 KiB", .0.display())]
    KeyFileSize(std::path::PathBuf),
    /// A file that should have been PEM.
    #[error("{} is not text", .0.display())]
    NotText(std::path::PathBuf),
    /// Not hexadecimal digits.
    #[error("'{0}' is not a handle such as 0x81000001")]
    Handle(String),
    /// Not three segments.
    #[error("'{0}' is not a resource such as default/disk/NAME: letters, digits, '.', '_' and '-'")]
    Resource(String),
    /// What ends the machine, or its network, is the initramfs's alone.
    #[error("'{0}' runs inside an initramfs only")]
    NotInInitramfs(&'static str),
    /// `reboot(2)`.
    #[error("Ending the machine")]
    End(#[source] nix::Error),
    /// Standard output.
    #[error("Printing the result")]
    Print(#[source] std::io::Error),
    /// JSON.
    #[error("Serialising the result")]
    Serialise(#[source] serde_json::Error),
}

impl Failure for UsageError {
    fn slug(&self) -> &'static str {
        match self {
            Self::Print(_) | Self::Serialise(_) => "output-failed",
            Self::End(_) => "end-failed",
            Self::KeyFile { .. } | Self::KeyFileSize(_) | Self::NotText(_) => "key-file",
            _ => "usage",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Print(_) | Self::Serialise(_) | Self::End(_) => Class::Os,
            _ => Class::Usage,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Print(_)
            | Self::Serialise(_)
            | Self::End(_)
            | Self::KeyFile { .. }
            | Self::KeyFileSize(_) => "",
            Self::NotDry => "Add --dry-run; what a boot unlocks is found by its partition type",
            _ => "cvm-unlock --help",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Common, Command), UsageError> {
        parse(std::iter::once("cvm-unlock").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn common_options_stand_before_or_after_the_command() {
        for line in ["--json status --root=/x", "status --json --root /x"] {
            let (common, command) = parsed(line).unwrap();
            assert!(common.json && common.root.as_os_str() == "/x" && matches!(command, Command::Status));
        }
    }

    #[test]
    fn a_volume_can_be_named_for_a_dry_run_only() {
        assert!(matches!(parsed("unlock disk.img"), Err(UsageError::NotDry)));
        assert!(matches!(parsed("unlock --tpm2-signature=x"), Err(UsageError::NotDry)));
        assert!(parsed("unlock --dry-run disk.img --tpm2-signature=x").is_ok());
    }

    #[test]
    fn incomplete_and_unknown_commands_are_refused() {
        for line in [
            "",
            "frobnicate",
            "unlock --force",
            "enroll",
            "enroll x --tpm2-pcrs=7",
            "enroll x --unlock-tpm2",
            "enroll x --unlock-tpm2 --unlock-key-file=k --tpm2-pcrs=7",
            "enroll x --unlock-tpm2 --wipe-slot=some",
            "enroll x --unlock-tpm2 --recovery-key --kbs-path=default/disk/x",
            "enroll x --unlock-tpm2 --kbs=f --kbs-path=default/disk",
            "enroll x --unlock-tpm2 --kbs=f --kbs-path=default/../x",
            "bind",
            "inspect",
            "config",
            "config x",
            "attest disk.img",
            "attest --show-ak --connect",
        ] {
            assert_eq!(parsed(line).map(|_| ()).unwrap_err().slug(), "usage", "{line}");
        }
    }

    #[test]
    fn every_command_has_help() {
        for line in
            ["--help", "help", "help enroll", "enroll --help", "unlock -h", "config --help", "fail --help"]
        {
            assert!(matches!(parsed(line), Ok((_, Command::Help(_)))), "{line}");
        }
    }
}
