//! Forged LUKS2 metadata from cryptsetup: refused with its own slug, or read in one way only.

use cvm_unlock::base::error::Failure;
use cvm_unlock::format::luks::{Condition, FlagSet, Snapshot, emit};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::support::forge::{Field, Forge};
use crate::support::snapshot::read;
use crate::support::volumes::{FAST, VOLUME, Volume, text};

#[test]
fn forged_metadata_is_refused_by_its_slug() {
    let volume = Volume::format(&[]).bytes();
    assert!(read(&Forge::of(&volume).json(|_| ()).volume()).is_ok(), "the forger's own work is not refused");
    let table: &[(&str, &str, serde_json::Value)] = &[
        // V1 to V3 of the Trail of Bits findings, then area redirection, KDF bombs and other attempts.
        ("luks-cipher-null", "/keyslots/0/area/encryption", json!("cipher_null-ecb")),
        ("luks-cipher-null", "/segments/0/encryption", json!("cipher_null-ecb")),
        ("luks-segment-linear", "/segments/0/type", json!("linear")),
        ("luks-segment-count", "/segments/1", json!({"type": "crypt"})),
        ("luks-segment-linear", "/segments/1", json!({"type": "linear", "offset": "0", "size": "512"})),
        ("luks-area-range", "/keyslots/0/area/offset", json!("0")),
        ("luks-area-range", "/keyslots/0/area/offset", json!("16777216")),
        ("luks-area-range", "/keyslots/0/area/offset", json!("18446744073709547520")),
        ("luks-kdf-cost", "/keyslots/0/kdf/iterations", json!(u32::MAX)),
        ("luks-kdf-cost", "/digests/0/iterations", json!(u32::MAX)),
        ("luks-requirements", "/config/requirements", json!({"mandatory": ["online-reencrypt-v2"]})),
        ("luks-requirements", "/config/requirements", json!({})),
        ("luks-flag", "/config/flags", json!(["allow-discards"])),
        ("luks-flag", "/config/flags", json!(["unheard-of"])),
        ("luks-reencrypt", "/keyslots/0/type", json!("reencrypt")),
        ("luks-integrity", "/segments/0/integrity", json!({"type": "hmac(sha256)"})),
        ("luks-segment-range", "/segments/0/offset", json!("32768")),
        ("luks-segment-range", "/segments/0/size", json!("1099511627776")),
        ("luks-area-size", "/config/json_size", json!("28672")),
        ("luks-area-size", "/config/keyslots_size", json!("1099511627776")),
        ("luks-digest-count", "/digests", json!({})),
        ("luks-digest-count", "/digests/0/segments", json!([])),
        ("luks-digest-count", "/digests/0/segments", json!(["0", "1"])),
        ("luks-digest-count", "/digests/0/keyslots", json!(["0", "9"])),
        ("luks-no-keyslot", "/digests/0/keyslots", json!([])),
        ("luks-key-size", "/keyslots/0/key_size", json!(48)),
        ("luks-metadata", "/keyslots/00", json!({})),
        ("luks-metadata", "/keyslots/32", json!({})),
        ("luks-metadata", "/extra", json!({})),
        ("luks-metadata", "/tokens/0", json!(1)),
        ("luks-metadata", "/config/extra", json!(1)),
    ];
    for (slug, pointer, value) in table {
        let forged = Forge::of(&volume).set(pointer, value).volume();
        assert_eq!(tried(&forged), Err(*slug), "{pointer} = {value}");
    }
}

/// Reads the header, and the keyslot as if a token named it.
fn tried(volume: &[u8]) -> Result<(), &'static str> {
    read(volume)?.keyslot(0).map(drop).map_err(|error| error.slug())
}

#[test]
fn keyslots_that_overlap_or_disagree_are_refused() {
    let volume = Volume::format(&[]);
    volume.cryptsetup("luksAddKey", &[&FAST[..], &[text(&volume.key_file())]].concat());
    let volume = volume.bytes();
    assert!(read(&volume).is_ok());
    let overlap = Forge::of(&volume).json(|json| {
        json["keyslots"]["1"]["area"]["offset"] = json["keyslots"]["0"]["area"]["offset"].clone();
    });
    assert_eq!(read(&overlap.volume()), Err("luks-area-overlap"));
    let sizes = Forge::of(&volume).set("/keyslots/1/key_size", &json!(32));
    assert_eq!(read(&sizes.volume()), Err("luks-key-size"));
}

#[test]
fn what_two_parsers_would_read_differently_is_refused() {
    let volume = Volume::format(&[]).bytes();
    let table: &[(&str, &str, &str)] = &[
        ("luks-duplicate-key", r#""segments":{"#, r#""segments":{},"segments":{"#),
        ("luks-duplicate-key", r#""type":"crypt""#, r#""type":"linear","type":"crypt""#),
        ("luks-duplicate-key", r#""type":"crypt""#, r#""type":"crypt","\u0074ype":"linear""#),
        ("luks-json-number", r#""stripes":4000"#, r#""stripes":4e3"#),
        ("luks-json-number", r#""stripes":4000"#, r#""stripes":4000.0"#),
        ("luks-json-number", r#""stripes":4000"#, r#""stripes":04000"#),
        ("luks-json", r#""type":"crypt""#, r#""type":"crypt\u0000""#),
        ("luks-metadata", r#""iv_tweak":"0""#, r#""iv_tweak":"00""#),
        ("luks-json", r#"{"keyslots""#, r#" {"keyslots""#),
    ];
    for (slug, from, to) in table {
        let forged = Forge::of(&volume).text(|text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        assert_eq!(tried(&forged.volume()), Err(*slug), "{to}");
    }
    let trailing = Forge::of(&volume).text(|text| format!("{text}\0{text}"));
    assert_eq!(read(&trailing.volume()), Err("luks-json-trailing"));
}

#[test]
fn copies_that_say_different_things_are_refused_unless_a_write_was_interrupted() {
    let mut forge = Forge::of(&Volume::format(&[]).bytes());
    let sequence = forge.primary.sequence_id();
    forge.secondary.json(|json| json["tokens"]["0"] = json!({"type": "x", "keyslots": []}));
    assert_eq!(read(&forge.volume()), Err("luks-copies-differ"));

    forge.secondary.set(Field::SequenceId, &(sequence - 1).to_be_bytes());
    let snapshot = read(&forge.volume()).unwrap();
    assert_eq!((snapshot.condition(), snapshot.tokens().len()), (Condition::SecondaryStale, 0));

    forge.secondary.set(Field::SequenceId, &(sequence + 2).to_be_bytes());
    assert_eq!(read(&forge.volume()), Err("luks-copies-sequence"));
}

#[test]
fn one_damaged_copy_is_replaced_by_the_other_wherever_that_lies() {
    for size in ["16384", "65536", "1048576"] {
        let sound =
            Volume::format(&[&format!("--luks2-metadata-size={size}"), "--luks2-keyslots-size=1048576"])
                .bytes();
        let second = size.parse::<usize>().unwrap();
        // The primary's magic, its size (which then misstates the secondary's place), and its JSON.
        for (position, value) in [(0, 0), (13, 0x40), (5000, b'x')] {
            let mut damaged = sound.clone();
            damaged[position] = value;
            let snapshot = read(&damaged).unwrap_or_else(|slug| panic!("{size}, {position}: {slug}"));
            assert_eq!(snapshot.condition().slug(), Some("header-copy-damaged"));
            damaged[second + 4999] ^= 1;
            assert!(read(&damaged).is_err(), "both");
        }
        let mut damaged = sound.clone();
        damaged[second + 6000] ^= 1;
        assert!(matches!(read(&damaged).unwrap().condition(), Condition::SecondaryDamaged(_)));
    }
}

#[test]
fn two_secondary_copies_behind_a_damaged_primary_are_refused() {
    let mut volume = Volume::format(&["--luks2-metadata-size=16384"]).bytes();
    let second = 16384;
    volume[0] = 0;
    assert!(read(&volume).is_ok());
    let mut planted = volume[second..2 * second].to_vec();
    // A copy for a header of 64 KiB, at 64 KiB.
    planted.resize(0x1_0000, 0);
    planted[8..16].copy_from_slice(&0x1_0000_u64.to_be_bytes());
    planted[256..264].copy_from_slice(&0x1_0000_u64.to_be_bytes());
    planted[448..512].fill(0);
    let sum = <sha2::Sha256 as sha2::Digest>::digest(&planted);
    planted[448..480].copy_from_slice(&sum);
    volume[0x1_0000..0x2_0000].copy_from_slice(&planted);
    assert_eq!(read(&volume), Err("luks-copies-ambiguous"));
}

#[test]
fn what_is_no_luks2_header_is_refused_by_its_slug() {
    let sound = Volume::format(&["--luks2-metadata-size=16384"]).bytes();
    let both = |field: Field, bytes: &[u8]| read(&Forge::of(&sound).field(field, bytes).volume());
    assert!(both(Field::Magic, &[]).is_ok());
    assert_eq!(both(Field::Magic, b"XXXX"), Err("luks-magic"));
    assert_eq!(both(Field::Version, &[0, 1]), Err("luks-version"));
    assert_eq!(both(Field::HeaderSize, &0x5000_u64.to_be_bytes()), Err("luks-header-size"));
    assert_eq!(both(Field::HeaderSize, &u64::MAX.to_be_bytes()), Err("luks-header-size"));
    assert_eq!(both(Field::ChecksumAlgorithm, b"sha1\0\0"), Err("luks-checksum-algorithm"));
    assert_eq!(both(Field::Uuid, b"A"), Err("luks-uuid"));
    assert_eq!(both(Field::Uuid, &[b'a'; 40]), Err("luks-uuid"));
    assert_eq!(both(Field::HeaderOffset, &4096_u64.to_be_bytes()), Err("luks-header-offset"));
    let mut damaged = sound.clone();
    damaged[5000] ^= 1;
    damaged[16384 + 5000] ^= 1;
    assert_eq!(read(&damaged), Err("luks-checksum"));
    assert_eq!(read(&[0; 0]), Err("luks-read"), "a device that is shorter than it says");
    let tiny = Snapshot::read(&sound, 4095, 512, &FlagSet::default()).unwrap_err();
    assert_eq!(tiny.slug(), "luks-too-small");
}

#[test]
fn a_luks1_volume_is_refused_whatever_lies_behind_it() {
    let mut volume = Volume::format(&[]).bytes();
    volume[6..8].copy_from_slice(&[0, 1]);
    assert_eq!(read(&volume), Err("luks-version"));
}

#[test]
fn a_volume_of_4096_byte_sectors_has_its_data_aligned() {
    let volume = Volume::format(&["--offset=32776"]).bytes();
    let with_sectors = |sector_size| Snapshot::read(&volume, VOLUME, sector_size, &FlagSet::default());
    assert!(with_sectors(4096).is_ok(), "32776 is a multiple of eight");
    let odd = Forge::of(&volume)
        .set("/segments/0/offset", &json!("16781824"))
        .set("/segments/0/sector_size", &json!(512))
        .volume();
    assert!(read(&odd).is_ok());
    let error = Snapshot::read(&odd, VOLUME, 4096, &FlagSet::default()).unwrap_err();
    assert_eq!(error.slug(), "luks-segment-range");
}

#[test]
fn any_edit_of_a_real_headers_json_gives_an_answer_that_can_be_written_down() {
    let mut sound = Volume::format(&["--luks2-metadata-size=16384"]).bytes();
    sound.truncate(32768);
    let text = Forge::of(&sound).primary.text();
    let edit = (any::<prop::sample::Index>(), prop::collection::vec(0x20..0x7f_u8, 0..6), 0..6_usize);
    let edits = TestRunner::default().run(&edit, |(position, insert, remove)| {
        let mut edited = text.clone().into_bytes();
        let start = position.index(edited.len());
        edited.splice(start..(start + remove).min(text.len()), insert);
        let edited = String::from_utf8(edited).unwrap();
        let forged = Forge::of(&sound).text(|_| edited.clone());
        let Ok(snapshot) = read(&forged.volume()) else { return Ok(()) };
        // An accepted header has an equivalent canonical form.
        if let Ok(area) = snapshot.read_area(&vec![0; 1 << 25], 0) {
            let again = read(&emit::canonical_header(&snapshot, &area)).unwrap();
            let length = |snapshot: &Snapshot| (snapshot.segment().offset, snapshot.data_bytes());
            prop_assert_eq!((length(&again), again.digest()), (length(&snapshot), snapshot.digest()));
        }
        Ok(())
    });
    edits.unwrap();
}
