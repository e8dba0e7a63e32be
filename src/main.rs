//! The executable: passes the arguments to the library and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    cvm_unlock::cli::run(std::env::args_os())
}
