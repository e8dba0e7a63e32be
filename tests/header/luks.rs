//! LUKS2 metadata against the real cryptsetup: we accept what it writes, and the canonical header opens what
//! the original opens.

use std::cell::RefCell;
use std::io;

use cvm_unlock::base::pcr::{Bank, Pcr};
use cvm_unlock::base::source::Source;
use cvm_unlock::format::luks::binding::Binding;
use cvm_unlock::format::luks::{Cipher, Condition, Flag, FlagSet, Kdf, Segment, SegmentSize, Snapshot, emit};
use cvm_unlock::format::token::claims::Claims;
use cvm_unlock::format::token::systemd_tpm2::{Kind, Literal, Token};
use cvm_unlock::format::tpm2::blob::Sealed;
use cvm_unlock::format::tpm2::srk::Srk;
use cvm_unlock::format::tpm2::template::PrimaryAlg;
use serde_json::json;

use crate::support::forge::Forge;
use crate::support::snapshot::read;
use crate::support::tool::{run, run_ok};
use crate::support::volumes::{FAST, VOLUME, Volume, text};

#[test]
fn what_cryptsetup_makes_is_accepted() {
    let fast =
        ["--pbkdf=argon2id", "--pbkdf-memory=1024", "--pbkdf-force-iterations=4", "--pbkdf-parallel=1"];
    let slow = ["--pbkdf=argon2i", "--pbkdf-memory=1024", "--pbkdf-force-iterations=4", "--pbkdf-parallel=1"];
    let options: &[&[&str]] = &[
        &[],
        &["--sector-size=512"],
        &["--sector-size=4096"],
        &["--key-size=256"],
        &["--hash=sha512", "--label=root", "--subsystem=x"],
        &["--keyslot-key-size=256", "--keyslot-cipher=aes-xts-plain64"],
        &["--luks2-metadata-size=65536", "--luks2-keyslots-size=8388608"],
        &["--offset=8192", "--luks2-metadata-size=32768", "--luks2-keyslots-size=1048576"],
        &fast,
        &slow,
        &["--use-urandom", "--uuid=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"],
    ];
    for options in options {
        let volume = Volume::format(options);
        let snapshot = read(&volume.bytes()).unwrap_or_else(|slug| panic!("{options:?}: {slug}"));
        assert_eq!(snapshot.condition(), Condition::Sound);
        assert_eq!(snapshot.uuid().to_string(), volume.cryptsetup("luksUUID", &[]).trim());
        let narrow = options.contains(&"--key-size=256");
        assert_eq!(snapshot.segment().cipher, if narrow { Cipher::Aes128Xts } else { Cipher::Aes256Xts });
        assert_eq!(snapshot.segment().bytes, SegmentSize::Dynamic);
        assert_eq!(snapshot.data_bytes(), VOLUME - snapshot.segment().offset);
        assert_eq!(snapshot.keyslots().len(), 1);
        assert!(snapshot.tokens().is_empty() && snapshot.flags().is_empty());
    }
}

#[test]
fn every_keyslot_and_token_of_the_volume_key_is_seen_and_no_other() {
    let volume = Volume::format(&[]);
    let key = volume.key_file();
    let fast = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1234"];
    volume.cryptsetup("luksAddKey", &[&fast[..], &["--key-slot=5", text(&key)]].concat());
    volume.cryptsetup(
        "luksAddKey",
        &[&fast[..], &["--key-slot=7", "--unbound", "--key-size=256", text(&key)]].concat(),
    );
    run_ok("cryptsetup", &["token", "add", "--key-description=x", "--token-id=3", text(&volume.path())]);
    run_ok("cryptsetup", &["config", "--priority=prefer", "--key-slot=5", text(&volume.path())]);
    let snapshot = read(&volume.bytes()).unwrap();
    assert_eq!(snapshot.keyslots().keys().copied().collect::<Vec<_>>(), [0, 5], "slot 7 holds another key");
    assert!(matches!(snapshot.keyslot(5).unwrap().kdf, Kdf::Pbkdf2 { iterations: 1234, .. }));
    assert_eq!(snapshot.tokens()[&3]["type"], "luks2-keyring");
}

#[test]
fn the_canonical_header_opens_what_the_original_opened() {
    for options in [&[][..], &["--key-size=256", "--sector-size=512"], &["--luks2-metadata-size=131072"]] {
        let volume = Volume::format(options);
        let (path, key) = (volume.path(), volume.key_file());
        volume.cryptsetup("luksAddKey", &[&FAST[..], &["--key-slot=4", text(&key)]].concat());
        let bytes = volume.bytes();
        let snapshot = read(&bytes).unwrap();
        let area = snapshot.read_area(&bytes, 4).unwrap();
        let header = path.with_extension("header");
        std::fs::write(&header, emit::canonical_header(&snapshot, &area)).unwrap();

        let dump = run_ok("cryptsetup", &["luksDump", text(&header)]);
        assert!(dump.contains(&snapshot.uuid().to_string()) && dump.contains("0: luks2"), "{dump}");
        assert!(dump.contains(&format!("offset: {} [bytes]", snapshot.segment().offset)), "{dump}");
        let detached = format!("--header={}", text(&header));
        let open = ["open", "--test-passphrase", "--batch-mode", &detached, text(&path)];
        let with_key = format!("--key-file={}", text(&key));
        run_ok("cryptsetup", &[&open[..], &[&with_key]].concat());
        std::fs::write(&key, "wrong").unwrap();
        assert!(!run("cryptsetup", &[&open[..], &[&with_key]].concat()).status.success());
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was written to the volume");
    }
}

#[test]
fn the_canonical_header_says_what_the_original_said_and_nothing_else() {
    let volume = Volume::format(&["--sector-size=4096", "--label=hostile"]);
    let flags: FlagSet = [Flag::AllowDiscards, Flag::NoReadWorkqueue].into_iter().collect();
    let bytes = Forge::of(&volume.bytes())
        .set("/config/flags", &json!(["no-read-workqueue", "allow-discards"]))
        .set("/tokens/0", &json!({"type": "x", "keyslots": []}))
        .volume();
    let snapshot = Snapshot::read(&bytes, VOLUME, 512, &flags).unwrap();
    let area = snapshot.read_area(&bytes, 0).unwrap();
    let mut canonical = emit::canonical_header(&snapshot, &area);
    assert_eq!(emit::canonical_header(&snapshot, &area), canonical, "deterministic");
    canonical.resize(usize::try_from(VOLUME).unwrap(), 0);
    let again = Snapshot::read(&canonical, VOLUME, 512, &flags).unwrap();
    let fixed = Segment { bytes: SegmentSize::Fixed(snapshot.data_bytes()), ..*snapshot.segment() };
    assert_eq!(
        (again.uuid(), again.segment(), again.digest(), again.flags(), again.seqid()),
        (snapshot.uuid(), &fixed, snapshot.digest(), snapshot.flags(), snapshot.seqid())
    );
    assert!(again.tokens().is_empty() && again.label().is_empty());
    let area_again = again.read_area(&canonical, 0).unwrap();
    assert_eq!(area_again.bytes(), area.bytes());
    assert_eq!(area_again.keyslot().kdf, area.keyslot().kdf);
    assert_eq!(emit::canonical_header(&again, &area_again), canonical[..0x8000 + area.bytes().len()]);
}

/// A host that answers the second read of a byte differently.
struct Liar {
    bytes: Vec<u8>,
    seen: RefCell<Vec<bool>>,
}

impl Source for Liar {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.bytes.read_at(buffer, offset)?;
        let start = usize::try_from(offset).unwrap();
        for seen in &mut self.seen.borrow_mut()[start..start + buffer.len()] {
            assert!(!std::mem::replace(seen, true), "a byte was read twice");
        }
        Ok(())
    }
}

#[test]
fn no_byte_of_the_disk_is_read_twice() {
    let sound = Volume::format(&["--luks2-metadata-size=65536", "--luks2-keyslots-size=1048576"]).bytes();
    for (position, value) in [(0, b'L'), (0, 0), (5000, b'x'), (13, 0x40), (0x1_0000, 0), (0x1_1000, 0)] {
        let mut bytes = sound.clone();
        bytes[position] = value;
        let seen = RefCell::new(vec![false; bytes.len()]);
        let liar = Liar { bytes, seen };
        let snapshot = Snapshot::read(&liar, VOLUME, 512, &FlagSet::default()).unwrap();
        // The search for a secondary copy looks for a magic in sectors that may belong to a keyslot's area.
        if !matches!(snapshot.condition(), Condition::PrimaryDamaged(_)) {
            snapshot.read_area(&liar, 0).unwrap();
        }
    }
}

#[test]
fn systemds_own_parser_reads_the_tokens_that_we_write() {
    let volume = Volume::format(&[]);
    let public =
        [&[0, 8, 0, 0x0b, 0, 0, 4, 0x12, 0, 32][..], &[0xaa; 32], &[0, 0x10, 0, 32], &[0xbb; 32]].concat();
    let sealed = Sealed::new(vec![1; 158], public, None).unwrap();
    let srk = Srk::new(0x8100_0001, [&[0, 0x23, 0, 0x0b][..], &[7; 86]].concat()).unwrap();
    let proof = Claims::new(Binding::new([9; 32]));
    let literal = Literal {
        keyslot: 0,
        sealed: &sealed,
        policy_digest: &[0xaa; 32],
        pcrs: [4, 7, 11].into_iter().filter_map(Pcr::new).collect(),
        bank: Bank::Sha384,
        primary: PrimaryAlg::Rsa,
        srk: &srk,
        proof: Some(&proof),
    };
    let file = volume.path().with_extension("json");
    std::fs::write(&file, literal.to_json().to_string()).unwrap();
    let json = format!("--json-file={}", text(&file));
    run_ok("cryptsetup", &["token", "import", &json, "--token-id=2", text(&volume.path())]);

    // systemd's plug-in prints the token's details, and refuses tokens that it does not understand.
    let dump = run_ok("cryptsetup", &["luksDump", text(&volume.path())]);
    for line in
        ["tpm2-hash-pcrs:   4+7+11", "tpm2-pcr-bank:    sha384", "tpm2-primary-alg: rsa", "00 9e 01 01 01"]
    {
        assert!(dump.contains(line), "{line} in {dump}");
    }
    // cryptsetup rewrote the JSON on its way; our parser still finds the same.
    let snapshot = read(&volume.bytes()).unwrap();
    let token = Token::parse(2, &snapshot.tokens()[&2]).unwrap();
    assert_eq!((token.kind(), token.keyslot, token.bank), (Kind::Literal, 0, Some(Bank::Sha384)));
    assert_eq!((token.sealed, token.srk), (sealed, Some(srk)));
    assert_eq!(token.proof.unwrap().binding.bytes(), proof.binding.bytes());
}
