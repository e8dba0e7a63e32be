//! What the dracut module asks the executable when an image is built: bash runs the module's own functions on
//! a configuration, with a stand-in for the executable.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// Asks whether the network is needed; the executable is a shell script with this body.
fn needs_network(executable: &str) -> Output {
    let tree = tempfile::tempdir().unwrap();
    let path = |name: &str| tree.path().join(name);
    std::fs::create_dir_all(path("etc/cvm-unlock")).unwrap();
    std::fs::write(path("etc/cvm-unlock/config.json"), "{}").unwrap();
    std::fs::write(path("cvm-unlock"), format!("#!/bin/sh\n{executable}\n")).unwrap();
    std::fs::set_permissions(path("cvm-unlock"), PermissionsExt::from_mode(0o755)).unwrap();
    let module =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dracut-module/50cvm-unlock/module-setup.sh");
    // dracut's part: where binaries are, and the function for a fatal error.
    let script = r#"
        find_binary() { echo "/$1"; }
        dfatal() { echo "$1" >&2; }
        . "$MODULE"
        if cvm_unlock_needs network; then echo needed; else echo "not needed"; fi"#;
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).env("MODULE", module).env("dracutsysrootdir", tree.path());
    bash.output().unwrap()
}

#[test]
fn the_network_is_put_into_images_that_need_it_and_into_no_others() {
    for (executable, said) in [
        ("echo network", "needed\n"),
        ("echo disk; echo network", "needed\n"),
        ("echo networks", "not needed\n"),
        ("", "not needed\n"),
    ] {
        let output = needs_network(executable);
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
            (Some(0), said),
            "{executable}"
        );
    }
}

#[test]
fn an_executable_that_does_not_say_what_is_needed_stops_the_build_of_the_image() {
    for executable in ["exit 64", "echo network; exit 70", "kill -9 $$"] {
        let output = needs_network(executable);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{executable}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot say what"), "{executable}");
    }
}
