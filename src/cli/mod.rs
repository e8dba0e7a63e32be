//! The command line: parses the arguments into a request, performs it and turns the result into an exit code.
//!
//! The table of options (`options`) and the pages of the manual (`manual`) say what there is; the parser and
//! the help read them. Each command has a file with its request and its run: a call of the library, and its
//! result as text or JSON.

mod action;
mod attest;
mod bind;
mod command;
mod common;
mod config;
mod enroll;
mod enrolled;
mod fail;
mod given;
mod help;
mod inspect;
mod keys;
mod manual;
mod network;
mod option;
mod options;
mod output;
mod request;
mod status;
mod unlock;
mod usage;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::base::error::Error;
use common::Common;
use request::Request;

/// Runs the command that `argv` asks for, the program's name first.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<_> = argv.into_iter().collect();
    match request::parse(&argv) {
        Ok((common, request)) => {
            crate::base::log::install(&common.root);
            exit(perform(&common, &request))
        }
        Err(error) => {
            crate::base::log::install(Path::new("/"));
            exit(Err(error.into()))
        }
    }
}

fn perform(common: &Common, request: &Request) -> Result<u8, Error> {
    match request {
        Request::Unlock(request) => unlock::run(common, request),
        Request::Enroll(request) => enroll::run(common, request),
        Request::Bind(request) => bind::run(common, request),
        Request::Inspect(request) => inspect::run(common, request),
        Request::Attest(request) => attest::run(common, request),
        Request::Status => status::run(common),
        Request::Config(action) => config::run(common, *action),
        Request::Fail => fail::run(common),
        Request::NetworkDown => network::down(common),
        Request::NetworkMissing => network::missing(common),
        Request::Help(topic) => output::print(&help::text(*topic)),
        Request::Version => output::print(concat!("cvm-unlock ", env!("CARGO_PKG_VERSION"), "\n")),
    }
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
