//! Command line of the VM tests.

use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt;
use vm_tests::artefacts::workbench::Workbench;
use vm_tests::bench;
use vm_tests::lab::Lab;
use vm_tests::progress::Live;
use vm_tests::runner::{self, Extent};
use vm_tests::scenarios::{self, ALL, FULL};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut args = lexopt::Parser::from_env();
    let mut words = Vec::new();
    let mut live = Live::Quiet;
    let mut runs = 5;
    let mut jobs = runner::usual_jobs();
    let mut extent = Extent::Usual;
    while let Some(arg) = args.next()? {
        match arg {
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            Long("live") => live = Live::Everything,
            Long("full") => extent = Extent::Full,
            Long("jobs") => jobs = args.value()?.parse()?,
            Long("runs") => runs = args.value()?.parse()?,
            Value(word) => words.push(word.to_string_lossy().into_owned()),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let Some((command, rest)) = words.split_first() else {
        bail!("No command given\n\n{HELP}");
    };
    match (command.as_str(), rest) {
        ("list", []) => {
            for (scenarios, mark) in [(ALL, ""), (FULL, " (--full)")] {
                for scenario in scenarios {
                    println!("{:24} {}{mark}", scenario.name, scenario.about);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        ("run", names) => {
            let workbench = Workbench::open(live)?;
            // Consoles of several machines, mixed, would help nobody.
            let jobs = if live == Live::Quiet { jobs } else { 1 };
            let (passed, failed) = runner::run(&workbench, extent, names, jobs)?;
            println!("{passed} passed, {failed} failed");
            Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ("demo", []) => {
            scenarios::demo::narrated(&Lab::new(&Workbench::open(Live::Milestones)?, command))?;
            Ok(ExitCode::SUCCESS)
        }
        ("bench", []) => {
            bench::run(&Lab::new(&Workbench::open(live)?, command), runs)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("Not a command: {}\n\n{HELP}", words.join(" ")),
    }
}

const HELP: &str = "\
Boots real machines (QEMU, OVMF with Secure Boot, swtpm) and judges cvm-unlock.

  vm-tests list              what there is
  vm-tests run [NAME...]     run the usual scenarios, or these; all with --full
  vm-tests demo              one boot, console shown, with proof at the end
  vm-tests bench             time, TPM commands, memory and size beside systemd-cryptsetup

  --full                     run also what depends on Debian sid, which moves from day to day
  --jobs N                   scenarios at once in run (the number of processors, at most 4)
  --runs N                   boots of each unlocker in bench (5)
  --live                     show the consoles while machines run

Needs root and mmdebstrap (vm-tests/setup). Artefacts are kept in target/vm-tests, by content.
  CVM_UNLOCK_EXECUTABLE      the executable under test
  CVM_UNLOCK_TEST_DOUBLE     the same, built with the feature test-double
  CVM_UNLOCK_DRACUT_MODULE   the dracut module under test
  CVM_UNLOCK_VM_CACHE        where artefacts and traces of runs are kept
";
