//! Faults between us and a TPM: an interposer on the wire answers in place of the emulator. Each answer leads
//! to a certain slug and number of commands; none opens a volume or causes a crash.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::executable::{Run, run};
use crate::support::image::Image;
use crate::support::interposer::{Deed, Fault, Interposer};
use crate::support::swtpm::Swtpm;
use crate::support::{commands, systemd};

/// A volume enrolled with PCRs 7 and 15, which opens.
struct Fixture {
    tpm: Swtpm,
    image: Image,
}

impl Fixture {
    fn new() -> Self {
        let (tpm, image) = (Swtpm::new(), Image::new());
        image.enroll(&tpm, "7");
        let fixture = Self { tpm, image };
        fixture.opens(vec![], &UNDISTURBED);
        fixture
    }

    /// A dry run through an interposer.
    fn run(&self, faults: Vec<Fault>) -> (Run, Interposer) {
        let wire = Interposer::new(&self.tpm, faults);
        let run = self.image.dry_run_at(&wire.device(), &self.image.config_file());
        (run, wire)
    }

    /// Checks that it opens with exactly these commands, and leaves nothing in the TPM.
    #[track_caller]
    fn opens(&self, faults: Vec<Fault>, commands: &[&str]) {
        let (run, wire) = self.run(faults);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(wire.sent(), commands);
        self.tpm.holds_nothing();
    }

    /// Checks that it is refused with this slug and exit code.
    #[track_caller]
    fn is_refused(&self, faults: Vec<Fault>, slug: &str, code: i32) -> Interposer {
        let (run, wire) = self.run(faults);
        assert_eq!((run.slug().as_str(), run.code), (slug, code), "{}{}", run.stdout, run.stderr);
        wire
    }
}

#[test]
fn an_answer_to_come_back_later_is_waited_out_whatever_the_command() {
    let fixture = Fixture::new();
    for command in UNDISTURBED {
        for code in TRANSIENT {
            // More often than the library's own five attempts in a row.
            let (run, wire) = fixture.run(vec![Fault::on(command, Deed::Code(code)).times(7)]);
            assert_eq!(run.code, 0, "{command} {code:#x}: {}{}", run.stdout, run.stderr);
            assert_eq!(wire.count(command), 8, "{command} {code:#x}");
            assert_eq!(wire.sent().len(), UNDISTURBED.len() + 7, "{command} {code:#x}");
        }
    }
    fixture.tpm.holds_nothing();
}

#[test]
fn a_tpm_that_stays_busy_is_given_up_and_not_asked_for_another_token() {
    let fixture = Fixture::new();
    fixture.image.enroll(&fixture.tpm, "8");
    std::thread::scope(|scope| {
        for (code, most) in [(NV_RATE, PATIENCE), (RETRY, PATIENCE * LIBRARYS_ATTEMPTS)] {
            let fixture = &fixture;
            scope.spawn(move || {
                let wire = fixture.is_refused(vec![Fault::on("Load", Deed::Code(code))], "tpm-transient", 69);
                let sent = wire.count("Load");
                assert!(sent > 1 && sent <= most, "{code:#x}: {sent} times");
                assert_eq!(wire.count("Unseal"), 0);
            });
        }
    });
}

#[test]
fn a_lockout_is_never_retried() {
    let fixture = Fixture::new();
    for (position, command) in UNDISTURBED.into_iter().enumerate().take(5) {
        let wire = fixture.is_refused(vec![Fault::on(command, Deed::Code(LOCKOUT))], "tpm-lockout", 77);
        assert_eq!(wire.count(command), 1);
        // What was loaded before is flushed, and nothing else is sent.
        assert!(wire.sent()[..=position] == UNDISTURBED[..=position], "{:?}", wire.sent());
        assert!(wire.sent()[position + 1..].iter().all(|sent| *sent == "FlushContext"), "{:?}", wire.sent());
        fixture.tpm.holds_nothing();
    }
    // Another token is another object: it is tried, once.
    fixture.image.enroll(&fixture.tpm, "8");
    let (run, wire) = fixture.run(vec![Fault::once("Unseal", Deed::Code(LOCKOUT))]);
    assert_eq!((run.code, wire.count("Unseal")), (0, 2), "{}{}", run.stdout, run.stderr);
    assert_eq!(run.json()["refused_tokens"][0]["slug"], "tpm-lockout");
}

#[test]
fn pcrs_that_change_during_the_policy_make_it_start_again() {
    let fixture = Fixture::new();
    // A real change: another process extends a PCR between TPM2_PolicyPCR and TPM2_Unseal.
    let restarted = [&UNDISTURBED[..5], &["PolicyRestart"], &UNDISTURBED[3..]].concat();
    fixture.opens(vec![Fault::once("Unseal", Deed::After(extend(8, &[0x11; 32])))], &restarted);
    // At every attempt: given up after ten.
    let wire = fixture.is_refused(vec![Fault::on("Unseal", Deed::Code(PCR_CHANGED))], "pcr-changed", 77);
    assert_eq!((wire.count("Unseal"), wire.count("PolicyRestart")), (11, 10));
    fixture.tpm.holds_nothing();
    // A PCR of the policy itself, which then fails.
    let wire = fixture.is_refused(
        vec![Fault::once("Unseal", Deed::After(extend(7, &[0x11; 32])))],
        "pcr-mismatch",
        77,
    );
    assert_eq!(wire.count("Unseal"), 2);
    fixture.tpm.holds_nothing();
}

/// A volume with a signed policy for PCR 11 beside PCRs 7 and 15, in the first of two signed states.
struct SignedBench {
    fixture: Fixture,
    signatures: [Value; 2],
}

impl SignedBench {
    fn new() -> Self {
        let (tpm, image, signer) = (Swtpm::new(), Image::new(), systemd::Signer::new());
        let key = format!("--tpm2-public-key={}", signer.public().display());
        let sign = format!("--sign-key={}", image.owner_key().display());
        let enrolled = image.enroll_with(&tpm, &[&key, "--tpm2-pcrs=7", "--private-db", &sign]);
        assert_eq!(enrolled.code, 0, "{}", enrolled.stderr);
        let signatures = ["enter-initrd", "enter-initrd:leave-initrd"].map(|phase| {
            serde_json::from_slice(&fs::read(signer.sign(&tpm, "kernel", phase)).unwrap()).unwrap()
        });
        systemd::boot(&tpm, "kernel", "enter-initrd");
        Self { fixture: Fixture { tpm, image }, signatures }
    }

    /// A dry run with the first `signed` of the two states signed.
    fn run(&self, signed: usize, faults: Vec<Fault>) -> (Run, Interposer) {
        let wire = Interposer::new(&self.fixture.tpm, faults);
        let entries: Vec<&Value> =
            self.signatures[..signed].iter().flat_map(|file| file["sha256"].as_array().unwrap()).collect();
        let file = self.fixture.tpm.file("signatures.json");
        fs::write(&file, json!({"sha256": entries}).to_string()).unwrap();
        let device = format!("--tpm2-device={}", wire.device());
        let config = format!("--config={}", self.fixture.image.config_file().display());
        let named = format!("--tpm2-signature={}", file.display());
        (self.fixture.image.run("unlock", &["--dry-run", &device, &config, &named, "--json"]), wire)
    }
}

#[test]
fn a_signed_policy_is_planned_anew_once_when_its_pcrs_change() {
    // The next phase begins after PCR 11 was read, during the policy, and right before it is used.
    for command in ["PolicyPCR", "PolicyAuthorize", "Unseal"] {
        for (signed, slug) in [(2, ""), (1, "signature-missing")] {
            let fixture = SignedBench::new();
            assert_eq!(fixture.run(1, vec![]).0.code, 0);
            let next_phase = extend(11, &Sha256::digest("leave-initrd"));
            let (run, wire) = fixture.run(signed, vec![Fault::once(command, Deed::After(next_phase))]);
            assert_eq!(run.slug(), slug, "{command}: {}{}", run.stdout, run.stderr);
            assert_eq!(
                (run.code == 0, wire.count("PCR_Read")),
                (signed == 2, 2),
                "{command}: {:?}",
                wire.sent()
            );
            fixture.fixture.tpm.holds_nothing();
        }
    }
    // At every attempt: eleven attempts with each of two plans.
    let fixture = SignedBench::new();
    let (run, wire) = fixture.run(2, vec![Fault::on("Unseal", Deed::Code(PCR_CHANGED))]);
    assert_eq!((run.slug().as_str(), run.code), ("pcr-changed", 77), "{}{}", run.stdout, run.stderr);
    assert_eq!((wire.count("PCR_Read"), wire.count("Unseal")), (2, 22));
    fixture.fixture.tpm.holds_nothing();
}

#[test]
fn a_tpm_without_room_is_asked_again_once_after_strays_were_looked_for() {
    let fixture = Fixture::new();
    for (command, code) in [("Load", OBJECT_MEMORY), ("StartAuthSession", SESSION_HANDLES)] {
        let position = UNDISTURBED.into_iter().position(|other| other == command).unwrap();
        let lists = ["GetCapability", "GetCapability"];
        let again = [&UNDISTURBED[..=position], &lists, &UNDISTURBED[position..]].concat();
        fixture.opens(vec![Fault::once(command, Deed::Code(code))], &again);
        let wire = fixture.is_refused(vec![Fault::on(command, Deed::Code(code))], "tpm-memory", 69);
        assert_eq!((wire.count(command), wire.count("GetCapability")), (2, 2));
        fixture.tpm.holds_nothing();
    }
}

#[test]
fn an_emulator_is_started_once_and_a_second_demand_is_a_refusal() {
    let fixture = Fixture::new();
    let started = [&["PCR_Read", "Startup"], &UNDISTURBED[..]].concat();
    fixture.opens(vec![Fault::once("PCR_Read", Deed::Code(INITIALIZE))], &started);
    let wire = fixture.is_refused(vec![Fault::on("PCR_Read", Deed::Code(INITIALIZE))], "tpm-refused", 77);
    assert_eq!(wire.sent(), ["PCR_Read", "Startup", "PCR_Read"]);
}

#[test]
fn a_connection_that_ends_is_a_broken_transport_and_nothing_more_is_asked() {
    let fixture = Fixture::new();
    fixture.image.enroll(&fixture.tpm, "8");
    for (position, command) in UNDISTURBED.into_iter().enumerate().take(5) {
        let wire = fixture.is_refused(vec![Fault::once(command, Deed::HangUp)], "tpm-transport", 69);
        assert_eq!(wire.sent(), UNDISTURBED[..=position], "{command}");
        fixture.opens_after_a_reset();
    }
    // Once the secret is known it opens. What stays in the TPM is flushed when there is no room left.
    for _ in 0..2 {
        let (run, _) = fixture.run(vec![Fault::once("FlushContext", Deed::HangUp)]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    }
    let (run, wire) = fixture.run(vec![]);
    assert_eq!((run.code, wire.count("Load")), (0, 2), "{}{}", run.stdout, run.stderr);
    fixture.tpm.holds_nothing();
}

#[test]
fn an_unlock_whose_connection_broke_is_fenced_over_another_one() {
    let (fixture, root) = (Fixture::new(), tempfile::tempdir().unwrap());
    let config = root.path().join("config.json");
    fs::write(&config, r#"{"device_timeout_seconds": 1}"#).unwrap();
    let config = format!("--config={}", config.display());
    // There is no disk, so the failure is fenced; the wire disturbs that.
    let wire = Interposer::new(&fixture.tpm, vec![Fault::once("GetCapability", Deed::HangUp)]);
    let (root, device) =
        (format!("--root={}", root.path().display()), format!("--tpm2-device={}", wire.device()));
    let run = run(&["unlock", &root, &config, &device, "--json"]);
    assert_ne!(run.code, 0);
    assert_eq!(wire.sent(), ["GetCapability", "GetCapability", "PCR_Extend"], "{}", run.stderr);
}

#[test]
fn garbage_in_the_place_of_an_answer_opens_nothing_and_crashes_nothing() {
    let fixture = Fixture::new();
    fixture.image.enroll(&fixture.tpm, "8");
    for command in UNDISTURBED.into_iter().take(5) {
        for (name, bytes) in garbage() {
            let (run, wire) = fixture.run(vec![Fault::on(command, Deed::Bytes(bytes))]);
            let slug = match name {
                "an unknown code" | "a code of the library's" => "tpm-library",
                // A forged success passes here, but the TPM has not executed the command and refuses to
                // unseal.
                _ if name.starts_with("success") && command == "PolicyPCR" => "pcr-mismatch",
                _ => "tpm-transport",
            };
            assert_eq!(run.slug(), slug, "{command}, {name}: {}{}", run.stdout, run.stderr);
            assert!([69, 70, 77].contains(&run.code), "{command}, {name}: {}", run.code);
            if slug == "tpm-transport" {
                assert_eq!(wire.sent().last(), Some(&command), "{command}, {name}");
            }
        }
        fixture.opens_after_a_reset();
    }
}

#[test]
fn what_follows_an_answer_is_not_taken_for_the_next_one() {
    let fixture = Fixture::new();
    for command in UNDISTURBED {
        let longer = |answer: &mut Vec<u8>| answer.extend([0xff; 16]);
        fixture.opens(vec![Fault::altered(command, longer)], &UNDISTURBED);
    }
}

#[test]
fn an_answer_to_unseal_with_any_byte_changed_opens_nothing() {
    let fixture = Fixture::new();
    let (run, _) = fixture.run(vec![Fault::altered("Unseal", |_| ())]);
    assert_eq!(run.code, 0);
    let mut position = 0;
    loop {
        let length = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let seen = std::sync::Arc::clone(&length);
        let fault = Fault::altered("Unseal", move |answer| {
            seen.store(answer.len(), std::sync::atomic::Ordering::SeqCst);
            answer[position] ^= 1;
        });
        let (run, _) = fixture.run(vec![fault]);
        assert_ne!(run.code, 0, "byte {position}");
        assert!([69, 70, 77].contains(&run.code), "byte {position}: {}", run.stderr);
        position += 1;
        if position == length.load(std::sync::atomic::Ordering::SeqCst) {
            break;
        }
    }
    println!("{position} bytes");
}

#[test]
fn an_answer_to_another_command_with_any_byte_changed_crashes_nothing() {
    let fixture = Fixture::new();
    for (command, length) in [("PCR_Read", 60), ("Load", 60), ("StartAuthSession", 48), ("PolicyPCR", 10)] {
        for position in 0..length {
            let flip = move |answer: &mut Vec<u8>| answer[position] ^= 0x80;
            let (run, _) = fixture.run(vec![Fault::altered(command, flip)]);
            assert!([0, 69, 70, 77].contains(&run.code), "{command}, byte {position}: {}", run.stderr);
            assert!(run.code == 0 || !run.slug().is_empty(), "{command}, byte {position}");
        }
    }
}

/// Makes the emulator lock out after one wrong password, and sends one.
fn lock_out(tpm: &Swtpm) {
    tpm.tool("tpm2_dictionarylockout --setup-parameters --max-tries=1 --recovery-time=1000 --lockout-recovery-time=1000");
    fs::write(tpm.file("secret"), "a secret").unwrap();
    tpm.tool("tpm2_createprimary -C o -c guessed.ctx");
    tpm.tool("tpm2_create -C guessed.ctx -p right -i secret -u public -r private");
    tpm.tool("tpm2_flushcontext -t");
    tpm.tool("tpm2_load -C guessed.ctx -u public -r private -c object.ctx");
    tpm.tool("tpm2_flushcontext -t");
    assert!(!tpm.tool_succeeds("tpm2_unseal -c object.ctx -p wrong"));
    tpm.tool("tpm2_flushcontext -t");
    assert!(!tpm.tool_succeeds("tpm2_unseal -c object.ctx -p right"));
    tpm.tool("tpm2_flushcontext -t");
    let state = String::from_utf8(tpm.tool("tpm2_getcap properties-variable")).unwrap();
    assert!(state.lines().any(|line| line.split_whitespace().eq(["inLockout:", "1"])), "{state}");
}

#[test]
fn a_lockout_that_others_caused_keeps_none_of_our_objects_shut() {
    let fixture = Fixture::new();
    lock_out(&fixture.tpm);
    fixture.opens(vec![], &UNDISTURBED);
}

#[test]
fn what_systemd_252_sealed_below_a_key_that_counts_is_refused_in_a_lockout_and_opens_after_it() {
    let (tpm, image, root) = (Swtpm::new(), Image::new(), tempfile::tempdir().unwrap());
    systemd::cryptenroll_252(&image, &tpm, &["--tpm2-pcrs=7"]);
    let run = || systemd::dry_run(&image, &tpm, root.path(), &[]);
    assert_eq!(run().code, 0);
    lock_out(&tpm);
    let before = tpm.commands().len();
    let refused = run();
    assert_eq!((refused.slug().as_str(), refused.code), ("tpm-lockout", 77), "{}", refused.stdout);
    let sent = commands::names(&tpm.commands().split_off(before));
    assert_eq!(sent, ["PCR_Read", "CreatePrimary", "Load", "FlushContext"]);
    tpm.tool("tpm2_dictionarylockout --clear-lockout");
    assert_eq!(run().code, 0);
}

impl Fixture {
    /// The control after faults that left objects behind: without faults it opens.
    #[track_caller]
    fn opens_after_a_reset(&self) {
        for kind in ["-t", "-l"] {
            self.tpm.tool(&format!("tpm2_flushcontext {kind}"));
        }
        self.opens(vec![], &UNDISTURBED);
    }
}

/// Bytes that are no valid answer.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let header =
        |size: u32, code: u32| [&[0x80, 0x01][..], &size.to_be_bytes(), &code.to_be_bytes()].concat();
    vec![
        ("nothing", vec![]),
        ("one byte", vec![0x80]),
        ("half a header", vec![0x80, 0x01, 0, 0, 0]),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 64]),
        ("a header that says it is empty", header(0, 0)),
        ("a header that says it is shorter", header(9, 0)),
        ("a header that says it is far longer", header(u32::MAX, 0)),
        ("more than a TPM can say", [header(5000, 0), vec![0; 4990]].concat()),
        ("success without content", header(10, 0)),
        ("success with content of another kind", [header(74, 0), vec![0xa5; 64]].concat()),
        ("success with lengths beyond the end", [header(42, 0), vec![0xff; 32]].concat()),
        ("an unknown code", header(10, 0xffff_ffff)),
        ("a code of the library's", header(10, 0x0007_001b)),
    ]
}

/// `TPM2_PCR_Extend` of a PCR's SHA-256 bank with a password session.
fn extend(pcr: u8, digest: &[u8]) -> Vec<u8> {
    [
        &[0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, pcr, 0, 0, 0, 9][..],
        &[0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b],
        digest,
    ]
    .concat()
}

/// The commands of a dry run with a literal policy when nothing goes wrong.
const UNDISTURBED: [&str; 6] =
    ["PCR_Read", "Load", "StartAuthSession", "PolicyPCR", "Unseal", "FlushContext"];

// TPM_RC (TPM 2.0 Part 2, 6.6.3).
const INITIALIZE: u32 = 0x100;
const PCR_CHANGED: u32 = 0x128;
const OBJECT_MEMORY: u32 = 0x902;
const SESSION_HANDLES: u32 = 0x905;
const NV_RATE: u32 = 0x920;
const LOCKOUT: u32 = 0x921;
const RETRY: u32 = 0x922;
/// YIELDED, TESTING, NV_RATE, RETRY, NV_UNAVAILABLE.
const TRANSIENT: [u32; 5] = [0x908, 0x90a, NV_RATE, RETRY, 0x923];

/// How often we send a command at most: pauses of 5, 10, 20 … 320 ms, then of 500 ms, within 5 s.
const PATIENCE: usize = 16;
/// How often the library sends a command before it returns the answer: `_ESYS_MAX_SUBMISSIONS` of tpm2-tss.
const LIBRARYS_ATTEMPTS: usize = 5;
