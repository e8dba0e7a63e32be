use super::*;
use crate::base::error::Failure;
use proptest::prelude::*;
use serde_json::json;

use crate::format::luks::{Area, Cipher, Hash, Kdf, Keyslot, SegmentSize};

const BOUNDS: Bounds = Bounds { header: HeaderSize::MIN, volume: 64 << 20, sector_size: 512 };

fn keyslot(offset: u64) -> Value {
    Keyslot {
        key_size: 64,
        split_hash: Hash::Sha256,
        area: Area { offset, size: 258_048, cipher: Cipher::Aes256Xts },
        kdf: Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000, salt: [1; 32] },
    }
    .to_json()
}

fn digest(keyslots: &[&str], segments: &[&str]) -> Value {
    let digest = Digest { hash: Hash::Sha256, iterations: 1000, salt: [1; 32], value: vec![2; 32] };
    let mut json = digest.to_json();
    json["keyslots"] = json!(keyslots);
    json["segments"] = json!(segments);
    json
}

fn metadata() -> Value {
    let segment = Segment {
        offset: 16 << 20,
        bytes: SegmentSize::Dynamic,
        cipher: Cipher::Aes256Xts,
        sector_size: 512,
    };
    json!({
        "keyslots": {"0": keyslot(32_768), "1": keyslot(290_816)},
        "tokens": {"5": {"type": "x", "keyslots": ["0"]}},
        "segments": {"0": segment.to_json()},
        "digests": {"0": digest(&["0", "1"], &["0"])},
        "config": {"json_size": "12288", "keyslots_size": "16744448"},
    })
}

fn parse(json: &Value, bounds: Bounds, allowed: &FlagSet) -> Result<Metadata, HeaderError> {
    Metadata::parse(&Json::parse(json.to_string().as_bytes()).unwrap(), bounds, allowed)
}

fn slug(change: impl Fn(&mut Value)) -> &'static str {
    let mut json = metadata();
    change(&mut json);
    parse(&json, BOUNDS, &FlagSet::default()).map_or_else(|error| error.slug(), |_| "accepted")
}

#[test]
fn what_is_sound_is_accepted() {
    assert_eq!(slug(|_| ()), "accepted");
}

#[test]
fn a_keyslots_area_has_at_most_128_mib() {
    let with_size = |size: u64| {
        let mut json = metadata();
        json["config"]["keyslots_size"] = json!(size.to_string());
        json["segments"]["0"]["offset"] = json!("1073741824");
        let bounds = Bounds { volume: 1 << 40, ..BOUNDS };
        parse(&json, bounds, &FlagSet::default()).map_err(|error| error.slug()).map(|_| ())
    };
    assert_eq!(with_size(128 << 20), Ok(()));
    assert_eq!(with_size((128 << 20) + 4096), Err("luks-area-size"));
    assert_eq!(with_size((128 << 20) - 512), Err("luks-area-size"), "not aligned");
}

#[test]
fn areas_touch_but_never_overlap() {
    let second = |offset: u64| move |json: &mut Value| json["keyslots"]["1"] = keyslot(offset);
    assert_eq!(slug(second(290_816)), "accepted");
    assert_eq!(slug(second(286_720)), "luks-area-overlap");
    assert_eq!(slug(second(32_768)), "luks-area-overlap");
    assert_eq!(slug(second(28_672)), "luks-area-range", "in the second copy of the header");
    assert_eq!(slug(second(16_519_168)), "accepted", "the last one");
    assert_eq!(slug(second(16_523_264)), "luks-area-range", "into the data");
}

#[test]
fn a_keyslot_of_another_key_is_not_the_volumes() {
    let unbound = |json: &mut Value| {
        json["digests"]["0"] = digest(&["1"], &["0"]);
        json["digests"]["1"] = digest(&["0"], &[]);
        json["keyslots"]["0"]["key_size"] = json!(32);
    };
    let mut json = metadata();
    unbound(&mut json);
    let metadata = parse(&json, BOUNDS, &FlagSet::default()).unwrap();
    assert_eq!(metadata.keyslots.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn an_area_of_a_keyslot_that_is_not_the_volumes_is_checked_all_the_same() {
    let overlap = |json: &mut Value| {
        json["digests"]["0"] = digest(&["1"], &["0"]);
        json["keyslots"]["0"] = keyslot(290_816);
    };
    assert_eq!(slug(overlap), "luks-area-overlap");
}

#[test]
fn a_digest_of_another_key_may_be_of_any_kind() {
    let other = |json: &mut Value| {
        json["digests"]["0"] = digest(&["1"], &["0"]);
        json["digests"]["1"] = digest(&["0"], &[]);
        json["digests"]["1"]["hash"] = json!("whirlpool");
        json["digests"]["1"]["digest"] = json!("AAAA");
    };
    assert_eq!(slug(other), "accepted");
    assert_eq!(slug(|json| json["digests"]["0"]["hash"] = json!("whirlpool")), "luks-hash");
}

#[test]
fn a_token_of_another_type_may_hold_any_json_and_says_only_what_it_is() {
    let text = metadata().to_string();
    let theirs = metadata()["tokens"]["5"].to_string();
    let with = |token: &str| {
        let json = Json::parse(text.replace(&theirs, token).as_bytes()).map_err(HeaderError::from)?;
        Metadata::parse(&json, BOUNDS, &FlagSet::default())
    };
    let token = |kind: &str, more: &str| format!(r#"{{"type":"{kind}","keyslots":["0"],"more":{more}}}"#);
    for more in ["1.5", "1e999", "NaN", "18446744073709551616", r#""a\u0000b""#, r#"[{"a":[-0.0]}]"#] {
        let parsed = with(&token("x", more)).unwrap();
        assert_eq!(parsed.tokens[&5], json!({"type": "x", "keyslots": ["0"]}), "{more}");
        let ours = with(&token("systemd-tpm2", more));
        assert!(ours.is_err(), "a token that is used is strict: {more}");
    }
    let error = with(&token("x", r#"[{"a":1,"a":2}]"#)).unwrap_err();
    assert_eq!(error.slug(), "luks-duplicate-key");
}

#[test]
fn two_digests_for_one_thing_are_refused() {
    assert_eq!(slug(|json| json["digests"]["1"] = digest(&[], &["0"])), "luks-digest-count");
    assert_eq!(slug(|json| json["digests"]["1"] = digest(&["0"], &[])), "luks-digest-count");
    assert_eq!(slug(|json| json["digests"]["0"] = digest(&["0"], &["1"])), "luks-digest-count");
}

#[test]
fn only_flags_of_the_configuration_are_accepted() {
    let mut json = metadata();
    json["config"]["flags"] = json!(["allow-discards"]);
    let with = |allowed: &[Flag]| parse(&json, BOUNDS, &allowed.iter().copied().collect());
    assert_eq!(with(&[]).unwrap_err().slug(), "luks-flag");
    assert_eq!(with(&[Flag::NoJournal]).unwrap_err().slug(), "luks-flag");
    assert!(with(&[Flag::AllowDiscards, Flag::NoJournal]).unwrap().flags.contains(Flag::AllowDiscards));
}

#[test]
fn every_member_is_needed_and_no_other_is_known() {
    for name in ["keyslots", "tokens", "segments", "digests", "config"] {
        assert_eq!(slug(|json| drop(json.as_object_mut().unwrap().remove(name))), "luks-metadata", "{name}");
        assert_eq!(slug(|json| json[name] = json!([])), "luks-metadata", "{name}");
        // Keyslots, tokens, segments and digests must be numbered.
        assert_eq!(slug(|json| json[name]["x"] = json!({})), "luks-metadata", "{name}");
    }
    assert_eq!(slug(|json| json["x"] = json!({})), "luks-metadata");
}

/// Paths of all values in a tree.
fn pointers(json: &Value, path: &str, out: &mut Vec<String>) {
    out.push(path.to_owned());
    if let Some(object) = json.as_object() {
        object.iter().for_each(|(name, value)| pointers(value, &format!("{path}/{name}"), out));
    }
}

proptest! {
    /// Whatever replaces any value is refused, unless it is one of the values that may vary.
    #[test]
    fn any_value_anywhere_gives_an_answer(
        choice: prop::sample::Index,
        value in prop::sample::select(vec![
            json!(null), json!(0), json!(-1), json!(u64::MAX), json!("0"), json!(""), json!("18446744073709551615"),
            json!("linear"), json!("cipher_null-ecb"), json!([]), json!(["0"]), json!({}), json!({"0": {}}),
        ]),
    ) {
        let mut paths = Vec::new();
        pointers(&metadata(), "", &mut paths);
        let path = choice.get(&paths);
        let mut json = metadata();
        *json.pointer_mut(path).unwrap() = value;
        if let Ok(parsed) = parse(&json, BOUNDS, &FlagSet::default()) {
            // What parsing leaves unchecked is checked before it is tried.
            let tried = parsed.keyslots.values().map(Entry::judge).all(|keyslot| keyslot.is_ok());
            let varies = path.starts_with("/tokens") || path.starts_with("/digests/0/keyslots");
            prop_assert!(varies || !tried || json == metadata(), "{path}");
            prop_assert_eq!(parsed.segment.offset, 16 << 20);
        }
    }
}
