//! Runs tools of other projects, which make the input and judge the output. A missing tool fails the test.

use std::process::{Command, Output};

/// Runs a tool, which may fail.
pub fn run(tool: &str, arguments: &[&str]) -> Output {
    output(Command::new(tool).args(arguments).env("LC_ALL", "C"))
}

/// Runs a tool, which must succeed; returns its standard output.
pub fn run_ok(tool: &str, arguments: &[&str]) -> String {
    String::from_utf8(succeed(Command::new(tool).args(arguments).env("LC_ALL", "C"))).unwrap()
}

/// Runs a command, which must succeed; returns its standard output.
pub fn succeed(command: &mut Command) -> Vec<u8> {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A program that runs in the background, and inherits only its standard streams.
///
/// tpm2-tss opens its connections without `O_CLOEXEC`: an emulator that another thread starts meanwhile would
/// inherit one and keep it open, and the TPM at the other end would wait for the connection's next command
/// for ever.
pub fn daemon(program: &str) -> Command {
    let close =
        r#"for fd in /proc/$$/fd/*; do fd=${fd##*/}; [[ $fd -le 2 ]] || eval "exec $fd>&-"; done; exec "$@""#;
    let mut command = Command::new("bash");
    command.args(["-c", close, "bash", program]);
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}
