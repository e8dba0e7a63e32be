//! LUKS2 metadata that a hostile host made of what cryptsetup wrote: refused by its slug, or read as one thing only.
#![cfg(test)]

mod support;

use cvm_unlock::error::Failure;
use cvm_unlock::luks::{Condition, FlagSet, Snapshot, emit};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;
use support::snapshot::read;
use support::volumes::{
    VOLUME, Volume, checksum, forge, forge_text, header_size, json_text, replace_text, text,
};

#[test]
fn forged_metadata_is_refused_by_its_slug() {
    let volume = Volume::format(&[]).bytes();
    assert!(read(&forge(&volume, |_| ())).is_ok(), "the forger's own work is not what is refused");
    let table: &[(&str, &str, serde_json::Value)] = &[
        // V1 to V3 of the Trail of Bits findings, then area redirection, KDF bombs and what else a host may try.
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
        let forged = forge(&volume, |json| set(json, pointer, value.clone()));
        assert_eq!(read(&forged), Err(*slug), "{pointer} = {value}");
    }
}

/// Sets the member at `pointer`, which may be new.
fn set(json: &mut serde_json::Value, pointer: &str, value: serde_json::Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[name] = value;
}

#[test]
fn keyslots_that_overlap_or_disagree_are_refused() {
    let volume = Volume::format(&[]);
    volume.cryptsetup(
        "luksAddKey",
        &["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", text(&volume.key_file())],
    );
    let volume = volume.bytes();
    assert!(read(&volume).is_ok());
    let overlap = forge(&volume, |json| {
        json["keyslots"]["1"]["area"]["offset"] = json["keyslots"]["0"]["area"]["offset"].clone();
    });
    assert_eq!(read(&overlap), Err("luks-area-overlap"));
    let sizes = forge(&volume, |json| json["keyslots"]["1"]["key_size"] = json!(32));
    assert_eq!(read(&sizes), Err("luks-key-size"));
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
        ("luks-json", r#""stripes":4000"#, r#""stripes":04000"#),
        ("luks-json", r#""type":"crypt""#, r#""type":"crypt\u0000""#),
        ("luks-metadata", r#""iv_tweak":"0""#, r#""iv_tweak":"00""#),
        ("luks-json", r#"{"keyslots""#, r#" {"keyslots""#),
    ];
    for (slug, from, to) in table {
        let forged = forge_text(&volume, |text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        assert_eq!(read(&forged), Err(*slug), "{to}");
    }
    let trailing = forge_text(&volume, |text| format!("{text}\0{text}"));
    assert_eq!(read(&trailing), Err("luks-json-trailing"));
}

#[test]
fn copies_that_say_different_things_are_refused_unless_a_write_was_interrupted() {
    let sound = Volume::format(&[]).bytes();
    let second = header_size(&sound);
    let other = json_text(&sound).replace(r#""tokens":{}"#, r#""tokens":{"0":{"type":"x","keyslots":[]}}"#);
    let seqid = u64::from_be_bytes(sound[16..24].try_into().unwrap());

    let mut differ = sound.clone();
    replace_text(&mut differ, second, &other);
    assert_eq!(read(&differ), Err("luks-copies-differ"));

    let mut stale = differ.clone();
    stale[second + 16..second + 24].copy_from_slice(&(seqid - 1).to_be_bytes());
    checksum(&mut stale, second);
    let snapshot = read(&stale).unwrap();
    assert_eq!((snapshot.condition(), snapshot.tokens().len()), (Condition::SecondaryStale, 0));

    let mut far = differ;
    far[second + 16..second + 24].copy_from_slice(&(seqid + 2).to_be_bytes());
    checksum(&mut far, second);
    assert_eq!(read(&far), Err("luks-copies-sequence"));
}

#[test]
fn one_damaged_copy_is_replaced_by_the_other_wherever_that_lies() {
    for size in ["16384", "65536", "1048576"] {
        let sound =
            Volume::format(&[&format!("--luks2-metadata-size={size}"), "--luks2-keyslots-size=1048576"])
                .bytes();
        let second = header_size(&sound);
        // The primary's magic, its size (so that it lies about the secondary's place), and its JSON.
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
    let second = header_size(&volume);
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
    let second = header_size(&sound);
    let both = |position: usize, bytes: &[u8]| {
        let mut forged = sound.clone();
        for start in [0, second] {
            forged[start + position..start + position + bytes.len()].copy_from_slice(bytes);
            forged[start + 448..start + 512].fill(0);
            let sum = <sha2::Sha256 as sha2::Digest>::digest(&forged[start..start + second]);
            forged[start + 448..start + 480].copy_from_slice(&sum);
        }
        read(&forged)
    };
    assert!(both(0, &[]).is_ok());
    assert_eq!(both(0, b"XXXX"), Err("luks-magic"));
    assert_eq!(both(6, &[0, 1]), Err("luks-version"));
    assert_eq!(both(8, &0x5000_u64.to_be_bytes()), Err("luks-header-size"));
    assert_eq!(both(8, &u64::MAX.to_be_bytes()), Err("luks-header-size"));
    assert_eq!(both(72, b"sha1\0\0"), Err("luks-checksum-algorithm"));
    assert_eq!(both(168, b"A"), Err("luks-uuid"));
    assert_eq!(both(168, &[b'a'; 40]), Err("luks-uuid"));
    assert_eq!(both(24, &[0xff]), Err("luks-text"));
    assert_eq!(both(256, &4096_u64.to_be_bytes()), Err("luks-header-offset"));
    let mut damaged = sound.clone();
    damaged[5000] ^= 1;
    damaged[second + 5000] ^= 1;
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
    let odd = forge(&volume, |json| json["segments"]["0"]["offset"] = json!("16781824"));
    let odd = forge(&odd, |json| json["segments"]["0"]["sector_size"] = json!(512));
    assert!(read(&odd).is_ok());
    let error = Snapshot::read(&odd, VOLUME, 4096, &FlagSet::default()).unwrap_err();
    assert_eq!(error.slug(), "luks-segment-range");
}

#[test]
fn any_edit_of_a_real_headers_json_gives_an_answer_that_can_be_written_down() {
    let mut sound = Volume::format(&["--luks2-metadata-size=16384"]).bytes();
    let second = header_size(&sound);
    sound.truncate(2 * second);
    let text = json_text(&sound);
    let edit = (any::<prop::sample::Index>(), prop::collection::vec(0x20..0x7f_u8, 0..6), 0..6_usize);
    let edits = TestRunner::default().run(&edit, |(position, insert, remove)| {
        let mut edited = text.clone().into_bytes();
        let start = position.index(edited.len());
        edited.splice(start..(start + remove).min(text.len()), insert);
        let edited = String::from_utf8(edited).unwrap();
        let forged = forge_text(&sound, |_| edited.clone());
        if let Ok(snapshot) = read(&forged) {
            // What is accepted has a canonical form that says the same.
            let area = snapshot.read_area(&vec![0; 1 << 25], 0);
            let canonical = emit::canonical_header(&snapshot, &area.unwrap());
            let again = read(&canonical).unwrap();
            prop_assert_eq!((again.segment(), again.digest()), (snapshot.segment(), snapshot.digest()));
        }
        Ok(())
    });
    edits.unwrap();
}
