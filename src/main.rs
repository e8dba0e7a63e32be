//! The executable. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    cvm_unlock::cli::run(std::env::args_os())
}
