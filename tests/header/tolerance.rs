//! What a healthy volume may contain beside what a boot uses: keyslots, tokens and labels of other tools, and
//! a partition that ends within a LUKS sector. cryptsetup makes it; the executable must open it.
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::support::forge::{Field, Forge};
use crate::support::image::Image;
use crate::support::swtpm::Swtpm;
use crate::support::target::Target;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A volume that opens, and cryptsetup to work on copies of it.
struct Workshop {
    target: Target,
    folder: TempDir,
}

impl Workshop {
    fn new() -> Self {
        Self { target: Target::new(), folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The volume after cryptsetup ran; `None` if cryptsetup refuses, or cannot read its own result.
    fn after(&self, arguments: &[&[u8]]) -> Option<Vec<u8>> {
        let volume = self.file("volume", &self.target.sound);
        let arguments = arguments.iter().map(|argument| std::ffi::OsStr::from_bytes(argument));
        let cryptsetup = |arguments: &mut Command| arguments.output().unwrap().status.success();
        let done = cryptsetup(Command::new("cryptsetup").args(arguments).arg(&volume));
        let read = cryptsetup(Command::new("cryptsetup").args(["luksDump", &volume]));
        (done && read).then(|| fs::read(volume).unwrap())
    }

    fn opens_after(&self, arguments: &[&[u8]], what: &str) {
        let volume = self.after(arguments).unwrap_or_else(|| panic!("cryptsetup refuses {what}"));
        assert_eq!(self.target.refusal(&Forge::of(&volume)), None, "{what}");
    }

    fn with_token(&self, token: &[u8]) -> Option<Vec<u8>> {
        let file = self.file("token.json", token);
        self.after(&[b"token", b"import", b"--json-file", file.as_bytes()])
    }
}

#[test]
fn one_keyslot_more_with_any_option_of_cryptsetup_keeps_nothing_from_opening() {
    let workshop = Workshop::new();
    let new = workshop.file("new", b"recovery");
    let key = workshop.target.image.key_file().to_str().unwrap().to_owned();
    let fast = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];
    let options: &[&[&str]] = &[
        // One KiB above the limit for a keyslot that a boot tries.
        &["--pbkdf=argon2id", "--pbkdf-memory=1048577", "--pbkdf-force-iterations=4", "--pbkdf-parallel=4"],
        &["--pbkdf=argon2i", "--pbkdf-memory=32", "--pbkdf-force-iterations=4", "--pbkdf-parallel=1"],
        &["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--hash=sha1"],
        &["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--hash=sha3-512"],
        &["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--hash=blake2b-512"],
        &[&fast[..], &["--keyslot-cipher=aes-cbc-essiv:sha256", "--keyslot-key-size=256"]].concat(),
        &[&fast[..], &["--keyslot-cipher=aes-xts-plain", "--keyslot-key-size=256"]].concat(),
        &[&fast[..], &["--key-slot=31"]].concat(),
        &[&fast[..], &["--unbound", "--key-size=8"]].concat(),
        &[&fast[..], &["--unbound", "--key-size=2048"]].concat(),
        &[&fast[..], &["--unbound", "--key-size=4096", "--hash=sha1"]].concat(),
    ];
    for options in options {
        let volume = workshop.file("volume", &workshop.target.sound);
        let mut command = Command::new("cryptsetup");
        command.args(["luksAddKey", "--batch-mode", "--key-file", &key]).args(*options).args([&volume, &new]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        let bytes = fs::read(&volume).unwrap();
        assert_ne!(bytes, workshop.target.sound);
        assert_eq!(workshop.target.refusal(&Forge::of(&bytes)), None, "{options:?}");
    }
}

#[test]
fn a_keyslot_that_nobody_tries_may_cost_anything_and_the_one_that_is_tried_may_not() {
    let target = Target::new();
    let other = target.keyslot ^ 1;
    let sound: Value = serde_json::from_str(&target.forge().primary.text()).unwrap();
    let salt = &sound["keyslots"]["0"]["kdf"]["salt"];
    let iterations = json!(u32::MAX);
    let memory = json!({"type": "argon2id", "time": 4, "memory": 4_194_304, "cpus": 4, "salt": salt});
    for (pointer, value, slug) in [
        ("kdf/iterations", &iterations, "luks-kdf-cost"),
        ("kdf", &memory, "luks-kdf-cost"),
        ("kdf/hash", &json!("sha1"), "luks-hash"),
        // Not every machine's cryptsetup can make these two.
        ("kdf/hash", &json!("whirlpool"), "luks-hash"),
        ("area/encryption", &json!("serpent-xts-plain64"), "luks-cipher"),
        ("area/encryption", &json!("aes-cbc-essiv:sha256"), "luks-cipher"),
        ("area/encryption", &json!("cipher_null-ecb"), "luks-cipher-null"),
    ] {
        target.opens(&target.forge().set(&format!("/keyslots/{other}/{pointer}"), value));
        let tried = target.forge().set(&format!("/keyslots/{}/{pointer}", target.keyslot), value);
        target.refuses(&tried, slug, pointer);
    }
    // The place and the digest concern the whole volume.
    let ours = &sound["keyslots"][target.keyslot.to_string()]["area"]["offset"];
    let onto = target.forge().set(&format!("/keyslots/{other}/area/offset"), ours);
    target.refuses(&onto, "luks-area-overlap", "the other keyslot onto ours");
    let outside = target.forge().set(&format!("/keyslots/{other}/area/offset"), &json!("0"));
    target.refuses(&outside, "luks-area-range", "the other keyslot onto the header");
    let reencrypt = target.forge().set(&format!("/keyslots/{other}/type"), &json!("reencrypt"));
    target.refuses(&reencrypt, "luks-reencrypt", "a reencryption that is under way");
}

#[test]
fn a_token_of_another_type_may_hold_any_json_that_cryptsetup_imports() {
    let workshop = Workshop::new();
    let nested = |levels: usize| [&b"[".repeat(levels)[..], &b"]".repeat(levels)].concat();
    let values: &[&[u8]] = &[
        b"1.5",
        b"1e3",
        b"-0.0",
        b"-0",
        b"1e400",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"1234567890123456789012345678901234567890",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1.",
        br#""a\u0000b""#,
        br#""\u0001\u007f\ud83d\ude00\ud800""#,
        b"\"Gr\xf6\xdfe\"",
        b"\"\xff\xfe\"",
        b"[1,[2.5,{\"\":[null,true]}],\"/\"]",
        b"{\"\xf6\":1,\"\xf7\":2}",
    ];
    for value in values {
        let token = [br#"{"type":"tdx-kbs","keyslots":["0"],"value":"#, *value, b"}"].concat();
        let what = String::from_utf8_lossy(value).into_owned();
        let volume = workshop.with_token(&token).unwrap_or_else(|| panic!("cryptsetup refuses {what}"));
        assert_eq!(workshop.target.refusal(&Forge::of(&volume)), None, "{what}");
    }
    // As deep as cryptsetup itself reads, and no deeper.
    let deepest = (1..64).rev().find_map(|levels| {
        workshop.with_token(&[br#"{"type":"x","keyslots":[],"n":"#, &nested(levels)[..], b"}"].concat())
    });
    assert_eq!(workshop.target.refusal(&Forge::of(&deepest.unwrap())), None, "the deepest");
    workshop.opens_after(&[b"token", b"add", b"--key-description", b"d\xf6"], "a Latin-1 key description");
}

#[test]
fn a_label_may_hold_any_bytes() {
    let workshop = Workshop::new();
    for label in [&b"Gr\xf6\xdfe"[..], b"\xff\x01\x1b[31m", "Größe".as_bytes(), &[b'x'; 47]] {
        workshop.opens_after(&[b"config", b"--label", label], "a label");
        workshop.opens_after(&[b"config", b"--subsystem", label], "a subsystem");
    }
    let mut full = workshop.target.forge();
    full.copies().into_iter().for_each(|copy| copy.set(Field::Label, &[0xee; 48]));
    workshop.target.opens(&full);
    let mut different = workshop.target.forge();
    different.secondary.set(Field::Label, b"other");
    workshop.target.refuses(&different, "luks-copies-differ", "labels that differ");
}

#[test]
fn a_member_that_is_there_twice_is_refused_in_tokens_of_every_type() {
    let target = Target::new();
    let mut forge = target.forge();
    let text = forge.primary.text();
    let token = r#""9":{"type":"x","keyslots":[],"a":{"b":[{"c":1,"c":2}]}}"#;
    let text = text.replacen(r#""tokens":{"#, &format!(r#""tokens":{{{token},"#), 1);
    forge.copies().into_iter().for_each(|copy| copy.set_text(&text));
    target.refuses(&forge, "luks-duplicate-key", "c twice, deep inside a token of another type");
    let once = text.replace(r#","c":2"#, r#","d":2"#);
    forge.copies().into_iter().for_each(|copy| copy.set_text(&once));
    target.opens(&forge);
}

/// growpart and others grow a partition to the end of the disk, wherever that is.
#[test]
fn a_partition_that_ends_within_a_luks_sector_opens() {
    for sector in ["512", "1024", "2048", "4096"] {
        let tpm = Swtpm::new();
        let image = Image::new();
        let sector_size = format!("--sector-size={sector}");
        image.cryptsetup(&[
            "luksFormat",
            "--batch-mode",
            "--pbkdf=pbkdf2",
            "--pbkdf-force-iterations=1000",
            &sector_size,
        ]);
        image.enroll(&tpm, "7");
        let size = fs::metadata(image.path()).unwrap().len();
        for beyond in 0..8 {
            grow(&image.path(), size + beyond * 512);
            let run = image.dry_run(&tpm);
            assert_eq!(run.code, 0, "{sector}, {beyond} sectors beyond: {}", run.stdout);
        }
    }
}

fn grow(path: &Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}
