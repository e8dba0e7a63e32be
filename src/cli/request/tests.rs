use proptest::prelude::*;

use super::*;
use crate::base::error::{Error, Failure};
use crate::cli::manual::page;
use crate::cli::option::{Opt, Scope, Value};
use crate::cli::options;

#[test]
fn common_options_stand_before_or_after_the_command() {
    for line in ["--json status --root=/x", "status --json --root /x"] {
        let (common, request) = parsed(line).unwrap();
        assert!(common.json && common.root.as_os_str() == "/x" && matches!(request, Request::Status));
    }
}

#[test]
fn a_volume_can_be_named_for_a_dry_run_only() {
    for line in ["unlock disk.img", "unlock --tpm2-signature=x"] {
        let refused = parsed(line).unwrap_err();
        assert!(refused.hint().starts_with("Add --dry-run"), "{line}: {refused}");
    }
    assert!(parsed("unlock --dry-run disk.img --tpm2-signature=x").is_ok());
}

#[test]
fn incomplete_and_unknown_commands_are_refused() {
    for line in [
        "",
        "frobnicate",
        "unlock --force",
        "unlock --version",
        "--dry-run unlock",
        "--version unlock",
        "help frobnicate",
        "enroll",
        "enroll x --tpm2-pcrs=7",
        "enroll x --unlock-tpm2",
        "enroll x --unlock-tpm2 --unlock-key-file=k --tpm2-pcrs=7",
        "enroll x --unlock-tpm2 --wipe-slot=some",
        "enroll x --unlock-tpm2 --recovery-key --kbs-path=default/disk/x",
        "enroll x --unlock-tpm2 --recovery-key --tpm2-public-key-pcrs=11",
        "enroll x --unlock-tpm2 --kbs=f --kbs-path=default/disk",
        "enroll x --unlock-tpm2 --kbs=f --kbs-path=default/../x",
        "bind",
        "inspect",
        "inspect x y",
        "config",
        "config x",
        "config check show",
        "attest disk.img",
        "attest --show-ak --connect",
    ] {
        assert_eq!(parsed(line).map(|_| ()).unwrap_err().slug(), "usage", "{line}");
    }
}

#[test]
fn a_mistake_names_its_command_and_says_what_is_right() {
    for (line, message, hint) in [
        ("", "No command is given", "cvm-unlock --help"),
        ("frobnicate", "There is no command 'frobnicate'", "cvm-unlock --help"),
        ("--root", "--root=DIR lacks its value", "cvm-unlock --help"),
        ("status --json=1", "status: --json takes no value", "cvm-unlock status --help"),
        ("inspect", "inspect: A DEVICE or IMAGE is needed", "cvm-unlock inspect --help"),
        ("inspect x -x", "inspect: There is no option -x", "cvm-unlock inspect --help"),
        (
            "inspect x --sign-key=k",
            "inspect: There is no option --sign-key here; it belongs to enroll, bind",
            "cvm-unlock inspect --help",
        ),
        (
            "bind x --token-id=first",
            "bind: --token-id takes the number of a token, not 'first'",
            "cvm-unlock bind --help",
        ),
        (
            "enroll x --unlock-tpm2 --tpm2-pcrs=24",
            "enroll: --tpm2-pcrs takes PCRs such as 4+7, with values such as 7:sha256=HEX+11, or uki, not '24': PCR '24' \
             is unknown",
            "cvm-unlock enroll --help",
        ),
        (
            "enroll x --unlock-tpm2 --tpm2-pcrs=4 --tpm2-pcr-bank=md5",
            "enroll: --tpm2-pcr-bank takes sha256, sha384, sha512 or sha1, for PCRs without a value: PCR bank 'md5' is \
             unknown",
            "cvm-unlock enroll --help",
        ),
    ] {
        let refused = Error::from(parsed(line).unwrap_err());
        assert_eq!((refused.to_string().as_str(), refused.hint()), (message, hint), "{line}");
    }
}

#[test]
fn no_message_says_the_same_twice() {
    for option in options::ALL {
        for command in option.commands() {
            let line = format!("{} --{}=24,?", complete(command), option.name);
            if let Err(refused) = parsed(&line) {
                let refused = Error::from(refused).to_string();
                let parts: Vec<_> = refused.split(": ").collect();
                assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{refused}");
            }
        }
    }
}

#[test]
fn a_bank_that_does_not_fit_has_the_slug_of_pcrs() {
    let value = format!("--tpm2-pcrs=4:sha256={}", "00".repeat(32));
    for line in [format!("{value} --tpm2-pcr-bank=sha384"), "--tpm2-pcrs=4 --tpm2-pcr-bank=md5".to_owned()] {
        let refused = parsed(&format!("enroll x --unlock-tpm2 {line}")).unwrap_err();
        assert_eq!((refused.slug(), Error::from(refused).exit_code()), ("pcrs-syntax", 64), "{line}");
    }
}

#[test]
fn the_last_of_several_values_counts_and_all_are_well_formed() {
    let (common, _) = parsed("--root=/a status --root=/b").unwrap();
    assert_eq!(common.root.as_os_str(), "/b");
    assert!(shown("bind x --token-id=3 --token-id=4").contains("Some(4)"));
    assert!(parsed("bind x --token-id=first --token-id=4").is_err());
}

#[test]
fn every_command_has_help() {
    for (line, topic) in [
        ("--help", None),
        ("help", None),
        ("help help", None),
        ("--version --help", None),
        ("help enroll", Some(Command::Enroll)),
        ("--help enroll", Some(Command::Enroll)),
        ("enroll --help --nonsense", Some(Command::Enroll)),
        ("enroll --tpm2-pcrs=nonsense -h", Some(Command::Enroll)),
        ("help enroll --help", Some(Command::Enroll)),
        ("unlock -h", Some(Command::Unlock)),
        ("config --help", Some(Command::Config)),
        ("fail --help", Some(Command::Fail)),
    ] {
        match parsed(line) {
            Ok((_, Request::Help(found))) => assert_eq!(found, topic, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    assert!(matches!(parsed("--version"), Ok((_, Request::Version))));
}

#[test]
fn the_examples_of_the_help_are_understood() {
    for command in Command::ALL {
        for example in page(*command).examples {
            let line = example.line.replace("HEX", &"00".repeat(32));
            assert!(parsed(&line).is_ok(), "{line}: {:?}", parsed(&line));
        }
    }
}

/// An option in the table that a command does not read would be taken and ignored.
#[test]
fn every_option_that_a_command_takes_makes_a_difference_to_it() {
    for option in options::ALL {
        for command in option.commands() {
            // Two lines, as one has the option already.
            let other = match command {
                Command::Enroll => "enroll x --unlock-key-file=old --kbs=f",
                _ => command.name(),
            };
            let differs = |line| shown(line) != shown(&format!("{line} --{}{}", option.name, sample(option)));
            assert!(
                differs(complete(command)) || differs(other),
                "{command} does not read --{}",
                option.name
            );
        }
    }
}

#[test]
fn the_samples_are_values_that_their_options_take() {
    for option in options::ALL.iter().filter(|option| matches!(option.scope, Scope::After(_))) {
        for command in option.commands() {
            let line = format!("{} --{}{}", complete(command), option.name, sample(option));
            let message = parsed(&line).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!message.contains(" takes "), "{message}");
        }
    }
}

proptest! {
    #[test]
    fn any_arguments_give_an_answer(line in proptest::collection::vec(argument(), 0..8)) {
        let argv: Vec<_> = std::iter::once(OsString::from("cvm-unlock")).chain(line).collect();
        if let Err(error) = parse(&argv) {
            prop_assert_eq!(Error::from(error).exit_code(), 64);
        }
    }
}

/// A word that means something, an option with a value that fits or does not, or any bytes.
fn argument() -> impl Strategy<Value = OsString> {
    let commands = Command::ALL.iter().map(|command| command.name());
    let actions = Action::ALL.iter().map(|action| action.name());
    let words: Vec<_> = commands.chain(actions).chain(["--", "-", "x", "-h", "-V", "-hV"]).collect();
    let option = proptest::sample::select(options::ALL).prop_map(|option| (option.name, sample(option)));
    prop_oneof![
        3 => proptest::sample::select(words).prop_map(OsString::from),
        4 => option.clone().prop_map(|(name, value)| format!("--{name}{value}").into()),
        1 => (option, ".*").prop_map(|((name, _), value)| format!("--{name}={value}").into()),
        1 => proptest::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| {
            std::os::unix::ffi::OsStringExt::from_vec(bytes)
        }),
    ]
}

/// A value that `option` takes, after an equals sign.
fn sample(option: &Opt) -> &'static str {
    match option.value {
        Value::None => "",
        Value::Path(_) => "=some/file",
        Value::Text { name: "PCRS", .. } => "=7+12",
        Value::Text { name: "BANK", .. } => "=sha384",
        Value::Text { name: "HANDLE", .. } => "=0x81000009",
        Value::Text { name: "PATH", .. } => "=default/disk/x",
        Value::Text { name: "SLOTS", .. } => "=3,tpm2",
        Value::Text { name: "NUMBER", .. } => "=3",
        Value::Text { name: "DEVICE", .. } => "=/dev/tpm9",
        Value::Text { name, .. } => panic!("no sample of {name}"),
    }
}

/// A line that lacks nothing.
const fn complete(command: Command) -> &'static str {
    match command {
        Command::Enroll => "enroll x --unlock-tpm2 --tpm2-pcrs=4 --tpm2-public-key=k --kbs=f",
        Command::Unlock => "unlock --dry-run",
        Command::Bind => "bind x",
        Command::Inspect => "inspect x",
        Command::Config => "config check",
        other => other.name(),
    }
}

fn shown(line: &str) -> String {
    format!("{:?}", parsed(line).map_err(|error| error.to_string()))
}

fn parsed(line: &str) -> Result<(Common, Request), UsageError> {
    let words = std::iter::once("cvm-unlock").chain(line.split_whitespace());
    parse(&words.map(OsString::from).collect::<Vec<_>>())
}
