//! The command line: argv in, a `Command` out, and its run turned into an exit code.
//!
//! One file per subcommand, thin: they turn options into a call of the library and its result into text or JSON.

mod arguments;
mod attest;
mod bind;
mod config;
mod enroll;
mod fail;
mod help;
mod inspect;
mod keys;
mod network;
mod status;
mod unlock;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::base::error::Error;

pub use arguments::UsageError;

/// Runs the command that `argv` asks for.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (common, command) = match arguments::parse(argv) {
        Ok(parsed) => parsed,
        Err(error) => {
            crate::base::log::install(&PathBuf::from("/"));
            return exit(Err(error.into()));
        }
    };
    crate::base::log::install(&common.root);
    exit(match command {
        Command::Unlock(options) => unlock::run(&common, &options),
        Command::Enroll(options) => enroll::run(&common, &options),
        Command::Bind(options) => bind::run(&common, &options),
        Command::Inspect(options) => inspect::run(&common, &options),
        Command::Attest(options) => attest::run(&common, &options),
        Command::Status => status::run(&common),
        Command::Config(action) => config::run(&common, action),
        Command::Fail => fail::run(&common),
        Command::NetworkDown => network::down(&common),
        Command::NetworkMissing => network::missing(&common),
        Command::Help(topic) => print(topic.text()),
        Command::Version => print(concat!("cvm-unlock ", env!("CARGO_PKG_VERSION"), "\n")),
    })
}

/// What to do.
#[derive(Debug)]
enum Command {
    Unlock(unlock::Options),
    Enroll(Box<enroll::Options>),
    Bind(bind::Options),
    Inspect(inspect::Options),
    Attest(attest::Options),
    Status,
    Config(config::Action),
    Fail,
    NetworkDown,
    NetworkMissing,
    Help(help::Topic),
    Version,
}

/// Options of every command.
#[derive(Debug)]
struct Common {
    /// The directory that stands for `/`: every path of the host is below it.
    root: PathBuf,
    /// Another configuration than the image's.
    config: Option<PathBuf>,
    /// Machine-readable output.
    json: bool,
}

impl Default for Common {
    fn default() -> Self {
        Self { root: PathBuf::from("/"), config: None, json: false }
    }
}

/// Refuses to change this machine from anywhere but its own initramfs.
fn only_in_initramfs(common: &Common, command: &'static str) -> Result<(), UsageError> {
    if common.root.join("etc/initrd-release").exists() && common.root.as_os_str() == "/" {
        Ok(())
    } else {
        Err(UsageError::NotInInitramfs(command))
    }
}

/// Keeps secrets out of swap; a machine that forbids it is told of, and used.
fn lock_memory() {
    if let Err(error) = crate::sys::memory::lock() {
        log::warn!("{}", crate::base::error::chain(&error));
    }
}

/// Prints to standard output. A reader that has gone away (a closed pipe) is no failure of ours.
fn print(text: &str) -> Result<u8, Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(UsageError::Print(error).into()),
        _ => Ok(0),
    }
}

/// Prints a value as JSON.
fn print_json<T: serde::Serialize>(value: &T) -> Result<u8, Error> {
    let text = serde_json::to_string_pretty(value).map_err(UsageError::Serialise)?;
    print(&format!("{text}\n"))
}

fn exit(outcome: Result<u8, Error>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log::error!("{error} [{}]", error.slug());
            if !error.hint().is_empty() {
                log::error!("hint: {}", error.hint());
            }
            ExitCode::from(error.exit_code())
        }
    }
}
