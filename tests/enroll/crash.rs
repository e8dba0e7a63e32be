//! Crash safety: kills the shipped executable at each write to the volume and at each flush, one run each.
//! Afterwards the volume must open in at least one way that opened it before.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::executable::{self, option};
use crate::support::image::Image;
use crate::support::swtpm::Swtpm;

/// More cuts than any change has.
const LIMIT: usize = 40;

/// The calls that change an image file, and that make the change durable.
const CALLS: [&str; 2] = ["pwrite64", "fdatasync"];

/// Runs the executable under strace, which kills it at the entry of its `cut`th `call` on `path`.
fn run_and_cut(path: &Path, call: &str, cut: usize, arguments: &[String]) -> Output {
    Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-P", path.to_str().unwrap()])
        .args(["-e", &format!("inject={call}:signal=KILL:when={cut}")])
        .arg(executable::path())
        .args(arguments)
        .stdout(Stdio::null())
        .output()
        .expect("strace")
}

/// Kills at the first, second, … write to the image, and at each flush, until a run completes, each from the
/// same image. Returns the number of cuts.
fn cut_everywhere(image: &Image, arguments: &[String], opens: impl FnMut(&str)) -> usize {
    cut_at(&image.path(), &CALLS, image, arguments, opens)
}

/// The same at other `calls`, on `path`.
fn cut_at(
    path: &Path,
    calls: &[&str],
    image: &Image,
    arguments: &[String],
    mut opens: impl FnMut(&str),
) -> usize {
    let before = std::fs::read(image.path()).unwrap();
    let mut cuts = 0;
    for call in calls {
        for cut in 1..LIMIT {
            std::fs::write(image.path(), &before).unwrap();
            let run = run_and_cut(path, call, cut, arguments);
            opens(&format!("{call} {cut}"));
            if run.status.success() {
                break;
            }
            // strace ends as its tracee did.
            let killed = run.status.signal() == Some(9) || run.status.code() == Some(137);
            assert!(killed, "{call} {cut}: {:?} {}", run.status, String::from_utf8_lossy(&run.stderr));
            cuts += 1;
        }
    }
    cuts
}

fn command(name: &str, image: &Image, options: &[&str]) -> Vec<String> {
    let path = image.path();
    [name, path.to_str().unwrap()].iter().chain(options).map(|word| (*word).to_owned()).collect()
}

#[test]
fn an_enrolment_that_wipes_the_old_keys_may_be_killed_at_any_write() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "4");
    let (tpm_option, sign) = (option(&tpm), format!("--sign-key={}", image.owner_key().display()));
    let options = ["--unlock-tpm2", &tpm_option, "--tpm2-pcrs=4+7", &sign, "--wipe-slot=all"];
    let enroll = command("enroll", &image, &options);
    let (mut passphrase, mut wiped) = (0, 0);
    let cuts = cut_everywhere(&image, &enroll, |cut| {
        // The TPM's token is the old one or the new one, but there always is one.
        let run = image.dry_run(&tpm);
        assert_eq!(run.code, 0, "{cut}: {}{}", run.stdout, run.stderr);
        *if image.opens_with(Image::PASSPHRASE) { &mut passphrase } else { &mut wiped } += 1;
    });
    println!("{cuts} cuts: {passphrase} with the old keys, {wiped} without");
    // New area, flush, two headers with a flush each, old areas, flush.
    assert!(cuts == 8 && passphrase > 0 && wiped > 0, "{cuts} {passphrase} {wiped}");
    image.repair_finds_nothing();
}

#[test]
fn a_binding_may_be_killed_at_any_write() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "4");
    let bind =
        command("bind", &image, &[&option(&tpm), &format!("--sign-key={}", image.owner_key().display())]);
    let cuts = cut_everywhere(&image, &bind, |cut| {
        assert_eq!(image.dry_run(&tpm).code, 0, "{cut}");
        assert!(image.opens_with(Image::PASSPHRASE), "{cut}");
    });
    // Two headers, each with a flush.
    assert_eq!(cuts, 4);
}

#[test]
fn an_enrolment_for_a_key_broker_may_be_killed_at_any_write_to_the_volume_or_the_document() {
    let (image, folder) = (Image::new(), tempfile::tempdir().unwrap());
    let document = folder.path().join("document.json");
    let key = format!("--unlock-key-file={}", image.key_file().display());
    let enroll = command("enroll", &image, &[&key, &format!("--kbs={}", document.display())]);
    let sound = std::fs::read(image.path()).unwrap();
    let (mut with, mut without) = (0, 0);
    let mut still_opens = |cut: &str| {
        assert!(image.opens_with(Image::PASSPHRASE), "{cut}");
        // A keyslot for the key broker is on the disk only if its whole secret is in the document.
        if image.metadata()["tokens"].as_object().unwrap().is_empty() {
            without += 1;
        } else {
            let document: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&document).unwrap()).unwrap();
            assert!(image.opens_with(document["secret"].as_str().unwrap()), "{cut}");
            with += 1;
        }
        let _may_be_missing = std::fs::remove_file(&document);
    };
    let mut cuts = Vec::new();
    for (path, calls) in [
        (image.path(), &CALLS[..]),
        (document.clone(), &["write", "fsync"]),
        (folder.path().to_owned(), &["fsync"]),
    ] {
        std::fs::write(image.path(), &sound).unwrap();
        cuts.push(cut_at(&path, calls, &image, &enroll, &mut still_opens));
    }
    // New area, flush, two headers with a flush each; the document and its flush; its folder's.
    assert_eq!((cuts.as_slice(), with > 0, without > 0), (&[6, 2, 1][..], true, true), "{with} {without}");
    image.repair_finds_nothing();
}

#[test]
fn a_write_that_is_torn_leaves_a_volume_that_opens() {
    let (tpm, image) = (Swtpm::new(), Image::new());
    image.enroll(&tpm, "4");
    let before = std::fs::read(image.path()).unwrap();
    let sign = format!("--sign-key={}", image.owner_key().display());
    let run = image.run(
        "enroll",
        &["--unlock-tpm2", &option(&tpm), "--tpm2-pcrs=4+7", &sign, "--wipe-slot=all", "--json"],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    let after = std::fs::read(image.path()).unwrap();
    let new = image.metadata()["keyslots"][run.json()["keyslot"].to_string()]["area"].clone();
    let number = |member: &str| new[member].as_str().unwrap().parse::<usize>().unwrap();
    let area = number("offset")..number("offset") + number("size");
    // The writes in order, with cryptsetup's default header size.
    let (secondary, primary, rest) = (0x4000..0x8000, 0..0x4000, 0x8000..after.len());
    let mut state = before;
    let mut torn = 0;
    for write in [area, secondary, primary, rest] {
        for at in [1, 100, 512, 4096, 5000, write.len() / 2, write.len() - 1] {
            let mut cut = state.clone();
            cut[write.start..write.start + at].copy_from_slice(&after[write.start..write.start + at]);
            std::fs::write(image.path(), cut).unwrap();
            let run = image.dry_run(&tpm);
            assert_eq!(run.code, 0, "{write:?} torn at {at}: {}{}", run.stdout, run.stderr);
            torn += 1;
        }
        state[write.clone()].copy_from_slice(&after[write]);
    }
    assert!(torn == 28 && state == after);
}
