//! The mapping that we intend, against cryptsetup's reading: for volumes formatted with any of the options
//! that we accept, cryptsetup reports the same about our canonical header as about its own.

use cvm_unlock::format::luks::{Flag, FlagSet, SegmentSize, Snapshot, emit};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::support::forge::Forge;
use crate::support::tool::run_ok;
use crate::support::volumes::{VOLUME, Volume, text};

/// Options of `cryptsetup luksFormat`, and persistent flags (which only an activation can write).
#[derive(Clone, Debug)]
struct Format {
    options: Vec<String>,
    flags: Vec<Flag>,
}

fn any_format() -> impl Strategy<Value = Format> {
    let hash = || prop::sample::select(vec!["sha256", "sha384", "sha512"]);
    let bits = || prop::sample::select(vec![256, 512]);
    let kdf = prop_oneof![
        (1000..5000_u32)
            .prop_map(|n| vec!["--pbkdf=pbkdf2".to_owned(), format!("--pbkdf-force-iterations={n}")]),
        (prop::sample::select(vec!["argon2i", "argon2id"]), 4..6_u32, 32..2048_u32, 1..=4_u32).prop_map(
            |(kind, time, memory, lanes)| vec![
                format!("--pbkdf={kind}"),
                format!("--pbkdf-force-iterations={time}"),
                format!("--pbkdf-memory={memory}"),
                format!("--pbkdf-parallel={lanes}"),
            ]
        ),
    ];
    let sector = prop::sample::select(vec![512, 1024, 2048, 4096]);
    let copy = prop::sample::select((14..=20).map(|shift| 1_u32 << shift).collect::<Vec<_>>());
    let flags = prop::sample::subsequence(Flag::ALL.to_vec(), 0..=Flag::ALL.len());
    let offset = prop::option::of((0..512_u32).prop_map(|n| 8192 + n * 8));
    (kdf, hash(), bits(), bits(), sector, copy, flags, offset).prop_map(
        |(mut options, hash, key, keyslot_key, sector, copy, flags, offset)| {
            options.extend([
                format!("--hash={hash}"),
                format!("--key-size={key}"),
                "--keyslot-cipher=aes-xts-plain64".to_owned(),
                format!("--keyslot-key-size={keyslot_key}"),
                format!("--sector-size={sector}"),
                format!("--luks2-metadata-size={copy}"),
                "--luks2-keyslots-size=1048576".to_owned(),
            ]);
            options.extend(offset.map(|sectors| format!("--offset={sectors}")));
            Format { options, flags }
        },
    )
}

/// cryptsetup's reading of a header.
fn dump(header: &std::path::Path) -> Value {
    serde_json::from_str(&run_ok("cryptsetup", &["luksDump", "--dump-json-metadata", text(header)])).unwrap()
}

#[test]
fn cryptsetup_reads_in_our_header_what_it_wrote_in_its_own() {
    let mut runner = TestRunner::new(Config { cases: 24, max_shrink_iters: 8, ..Config::default() });
    let outcome = runner.run(&any_format(), |Format { options, flags }| {
        let volume = Volume::format(&options.iter().map(String::as_str).collect::<Vec<_>>());
        let names: Vec<_> = flags.iter().map(|flag| flag.name()).collect();
        let bytes = Forge::of(&volume.bytes()).set("/config/flags", &json!(names)).volume();
        std::fs::write(volume.path(), &bytes).unwrap();
        let allowed: FlagSet = flags.iter().copied().collect();
        let snapshot = Snapshot::read(&bytes, VOLUME, 512, &allowed).unwrap();
        let area = snapshot.read_area(&bytes, 0).unwrap();
        let header = volume.path().with_extension("header");
        std::fs::write(&header, emit::canonical_header(&snapshot, &area)).unwrap();

        let (theirs, mut ours) = (dump(&volume.path()), dump(&header));
        // One value differs: where the keyslot's bytes lie in the detached header.
        let (from, to) =
            (&theirs["keyslots"]["0"]["area"]["offset"], &mut ours["keyslots"]["0"]["area"]["offset"]);
        prop_assert_eq!(&*to, "32768");
        *to = from.clone();
        // And one is fixed when the header is read: where the data ends.
        prop_assert_eq!(&theirs["segments"]["0"]["size"], "dynamic");
        let size = &mut ours["segments"]["0"]["size"];
        prop_assert_eq!(&*size, &json!(snapshot.data_bytes().to_string()));
        *size = json!("dynamic");
        for part in ["segments", "digests", "keyslots"] {
            prop_assert_eq!(&ours[part], &theirs[part], "{}", part);
        }
        let sorted = |dump: &Value| {
            let mut flags: Vec<_> = dump["config"]["flags"].as_array().cloned().unwrap_or_default();
            flags.sort_by_key(Value::to_string);
            flags
        };
        prop_assert_eq!(sorted(&ours), sorted(&theirs));
        let uuid = |path: &std::path::Path| run_ok("cryptsetup", &["luksUUID", text(path)]);
        prop_assert_eq!(uuid(&header), uuid(&volume.path()));

        // The values that the live mapping is compared with.
        let segment = &theirs["segments"]["0"];
        prop_assert_eq!(snapshot.segment().offset.to_string(), segment["offset"].as_str().unwrap());
        prop_assert_eq!(snapshot.segment().cipher.specification(), segment["encryption"].as_str().unwrap());
        prop_assert_eq!(u64::from(snapshot.segment().sector_size), segment["sector_size"].as_u64().unwrap());
        prop_assert_eq!(snapshot.segment().bytes, SegmentSize::Dynamic);
        let key_size = theirs["keyslots"]["0"]["key_size"].as_u64();
        prop_assert_eq!(Some(u64::from(snapshot.segment().cipher.key_size())), key_size);
        Ok(())
    });
    outcome.unwrap();
}
