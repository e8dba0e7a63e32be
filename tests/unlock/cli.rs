//! The command line of the executable: help, usage, configuration, status.

use crate::support::executable::run;

#[test]
fn help_names_every_command_and_every_command_has_its_own() {
    let overview = run(&["--help"]);
    assert_eq!(overview.code, 0);
    for command in [
        "unlock",
        "enroll",
        "bind",
        "inspect",
        "attest",
        "status",
        "config",
        "fail",
        "network-down",
        "network-missing",
    ] {
        assert!(overview.stdout.contains(command), "{command}");
        let help = run(&[command, "--help"]);
        assert!(help.code == 0 && help.stdout.contains(&format!("Usage: cvm-unlock {command}")), "{command}");
    }
}

#[test]
fn a_mistake_on_the_command_line_is_explained_and_has_its_exit_code() {
    for arguments in [&["frobnicate"][..], &["unlock", "--force"], &["enroll"], &["config"], &[]] {
        let refused = run(arguments);
        assert_eq!(refused.code, 64, "{arguments:?}");
        assert!(
            refused.stderr.contains("[usage]") && refused.stderr.contains("hint: "),
            "{}",
            refused.stderr
        );
    }
}

#[test]
fn a_mistake_hints_at_the_help_of_its_command_which_knows_every_option() {
    for (arguments, message, hint) in [
        (&["status", "--json=yes"][..], "status: --json takes no value", "cvm-unlock status --help"),
        (&["inspect"], "inspect: A DEVICE or IMAGE is needed", "cvm-unlock inspect --help"),
        (
            &["bind", "x", "--token-id=a"],
            "bind: --token-id takes the number of a token",
            "cvm-unlock bind --help",
        ),
        (&["frobnicate"], "There is no command 'frobnicate'", "cvm-unlock --help"),
    ] {
        let refused = run(arguments);
        let said = &refused.stderr;
        assert!(refused.code == 64 && said.contains(message), "{said}");
        assert!(said.ends_with(&format!("hint: {hint}\n")), "{said}");
    }
    // A malformed value is told of once.
    let refused = run(&["enroll", "x", "--unlock-tpm2", "--tpm2-pcrs=24"]).stderr;
    assert_eq!(refused.matches("PCR '24' is unknown").count(), 1, "{refused}");
    let help = run(&["enroll", "--tpm2-pcrs=24", "--help"]);
    assert!(help.code == 0 && help.stdout.contains("--tpm2-pcrs=PCRS"), "{}", help.stderr);
}

#[test]
fn a_configuration_is_checked_where_the_image_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let check = || run(&["config", "check", "--config", file.to_str().unwrap()]);
    std::fs::write(&file, r#"{"device_timeout_seconds": 30}"#).unwrap();
    assert_eq!(check().code, 0);
    std::fs::write(&file, r#"{"device_timeout": 30}"#).unwrap();
    let refused = check();
    assert!(refused.code == 78 && refused.stderr.contains("[config-invalid]"), "{}", refused.stderr);
    std::fs::remove_file(&file).unwrap();
    assert!(check().stderr.contains("[config-unreadable]"));
}

#[test]
fn the_mount_unit_comes_from_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"root": {"fstype": "btrfs", "options": "ro,subvol=/@"}}"#).unwrap();
    let unit = run(&["config", "mount-unit", "--config", file.to_str().unwrap()]).stdout;
    assert!(
        unit.contains("What=/dev/mapper/root\n") && unit.contains("Type=btrfs\nOptions=ro,subvol=/@\n"),
        "{unit}"
    );
}

#[test]
fn status_prints_this_boots_report() {
    let root = tempfile::tempdir().unwrap();
    let option = format!("--root={}", root.path().display());
    let missing = run(&["status", &option]);
    assert!(missing.code == 69 && missing.stderr.contains("[no-report]"), "{}", missing.stderr);
    std::fs::create_dir_all(root.path().join("run/cvm-unlock")).unwrap();
    let report = r#"{"version": 1, "outcome": "failed",
        "failure": {"slug": "pcr-mismatch", "message": "No token opens", "exit_code": 77}}"#;
    std::fs::write(root.path().join("run/cvm-unlock/report.json"), report).unwrap();
    assert!(run(&["status", &option]).stdout.contains("No token opens [pcr-mismatch]"));
    let json: serde_json::Value = serde_json::from_str(&run(&["status", &option, "--json"]).stdout).unwrap();
    assert_eq!(json["failure"]["slug"], "pcr-mismatch");
}

#[test]
fn status_names_the_proof_that_opened_the_volume() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("run/cvm-unlock")).unwrap();
    let status = |volume: &str| {
        let report = format!(r#"{{"version": 1, "outcome": "unlocked", "volume": {volume}}}"#);
        std::fs::write(root.path().join("run/cvm-unlock/report.json"), report).unwrap();
        run(&["status", &format!("--root={}", root.path().display())]).stdout
    };
    let text = status(
        r#"{"device": "/dev/vda2", "token": 3, "keyslot": 1,
        "policy": {"kind": "signed", "pcrs": [7, 15], "signed_pcrs": [11]},
        "proof": {"binding": "verified", "authenticity": "owner-signature", "owner_key": "5eed"}}"#,
    );
    for line in [
        "token: 3",
        "keyslot: 1",
        "policy: signed: PCRs 11 by signature, PCRs 7+15 by value",
        "binding: verified: the header is the one that was enrolled",
        "authenticity: signed by the owner's key 5eed",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let text = status(
        r#"{"device": "/dev/vda2", "policy": {"kind": "unbound"},
        "proof": {"binding": "absent", "authenticity": "absent"}}"#,
    );
    assert!(text.contains("policy: unbound\n") && text.contains("who made the volume"), "{text}");
    // A report of a version that did not record proofs.
    assert!(!status(r#"{"device": "/dev/vda2"}"#).contains("binding"));
}

#[test]
fn network_down_takes_down_no_network_but_an_initramfss() {
    // Not even if the root looks like one.
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/initrd-release"), "").unwrap();
    let roots = ["/", root.path().to_str().unwrap()];
    for (command, root) in roots.iter().flat_map(|root| [("network-down", root), ("network-missing", root)]) {
        let refused = run(&[command, "--root", root]);
        let said = &refused.stderr;
        assert!(refused.code == 64 && said.contains("inside an initramfs only"), "{said}");
    }
}

#[test]
fn fail_ends_no_machine_but_an_initramfs() {
    let refused = run(&["fail"]);
    assert!(refused.code == 64 && refused.stderr.contains("inside an initramfs only"), "{}", refused.stderr);
}
