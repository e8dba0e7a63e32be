//! Known attacks by an attacker who can write to the disk, on a volume that the TPM would open. The
//! executable refuses each with its own slug, and opens the untouched volume in the same run. The variants:
//! V1 null cipher in a keyslot, V2 in the segment, V3 regions in clear, V4 another volume, V5 answers that
//! change (`swapped.rs`), V6 two copies, V7 two parsers, V8 redirected areas, V9 costs, V10 rollback, V11
//! integrity stripped.

use serde_json::{Value, json};

use crate::support::forge::{Field, Forge};
use crate::support::image::Image;
use crate::support::target::Target;
use crate::support::volumes::{FAST, text};

#[test]
fn v1_a_keyslot_under_the_null_cipher_is_refused() {
    let target = Target::new();
    // The whole attack: the attacker's own key in the token's keyslot, with its digest (vm: null-cipher shows
    // that it works elsewhere).
    let attack = target.forge().null_keyslot(target.keyslot, &[0x42; 64]);
    target.refuses(&attack, "luks-cipher-null", "an attacker's key under the null cipher");
    target.refuses_each(&[
        ("luks-cipher-null", "/keyslots/K/area/encryption", json!("cipher_null-ecb")),
        ("luks-cipher-null", "/keyslots/K/area/encryption", json!("cipher_null")),
        ("luks-cipher-null", "/keyslots/K/area/encryption", json!("capi:ecb(cipher_null)-plain64")),
        ("luks-cipher", "/keyslots/K/area/encryption", json!("aes-ecb")),
        ("luks-cipher", "/keyslots/K/area/encryption", json!("aes-cbc-plain")),
    ]);
    // A keyslot that no token names opens nothing, whatever its cipher: what opens is the owner's volume.
    target.opens(&target.forge().set("/keyslots/0/area/encryption", &json!("cipher_null-ecb")));
}

#[test]
fn v2_a_segment_under_the_null_cipher_is_refused() {
    let target = Target::new();
    let attack = target.forge().set("/segments/0/encryption", &json!("cipher_null-ecb"));
    // The digest covers the key and not the cipher, so every version of cryptsetup accepts it.
    assert!(target.cryptsetup_opens(&attack, Image::PASSPHRASE));
    target.refuses(&attack, "luks-cipher-null", "the segment");
    target.refuses_each(&[
        ("luks-cipher-null", "/segments/0/encryption", json!("cipher_null")),
        ("luks-cipher-null", "/segments/0/encryption", json!("capi:ecb(cipher_null)")),
        ("luks-cipher", "/segments/0/encryption", json!("aes-ecb")),
        ("luks-cipher", "/segments/0/encryption", json!("aes-cbc-plain")),
        ("luks-cipher", "/segments/0/encryption", json!("")),
    ]);
}

#[test]
fn v3_regions_in_clear_are_refused() {
    let target = Target::new();
    let whole = json!({"type": "linear", "offset": "16777216", "size": "dynamic"});
    target.refuses_each(&[
        ("luks-segment-linear", "/segments/0", whole.clone()),
        ("luks-segment-linear", "/segments/1", whole),
        ("luks-segment-linear", "/segments/0/type", json!("linear")),
        ("luks-segment-type", "/segments/0/type", json!("hw-opal")),
        ("luks-segment-flags", "/segments/0/flags", json!(["backup-previous"])),
        ("luks-requirements", "/config/requirements", json!({"mandatory": ["online-reencrypt-v2"]})),
        ("luks-requirements", "/config/requirements", json!({"mandatory": []})),
        ("luks-reencrypt", "/keyslots/0/type", json!("reencrypt")),
    ]);
    // CVE-2021-4122: a decryption that seems to have crashed.
    let crypt = json!({
        "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0",
        "encryption": "aes-xts-plain64", "sector_size": 512, "flags": ["in-reencryption"],
    });
    let decryption = target.forge().json(|json| {
        json["config"]["requirements"] = json!({"mandatory": ["online-reencrypt"]});
        json["segments"] = json!({"0": {"type": "linear", "offset": "0", "size": "1048576"}, "1": crypt});
    });
    target.refuses(&decryption, "luks-requirements", "a crashed decryption");
    let quiet = decryption.json(|json| drop(json["config"].as_object_mut().unwrap().remove("requirements")));
    target.refuses(&quiet, "luks-segment-linear", "the same without its mark");
}

#[test]
fn v4_the_owners_token_opens_no_other_volume() {
    let (target, foreign) = (Target::new(), Image::new());
    foreign.add_keyslot(Image::PASSPHRASE);
    let token: Value = serde_json::from_str(&target.forge().primary.text()).unwrap();
    let foreign = std::fs::read(foreign.path()).unwrap();
    let dressed = Forge::of(&foreign).set("/tokens", &token["tokens"]);
    target.refuses(&dressed, "keyslot-not-opened", "the token alone");
    // With the keyslot itself: the secret opens it, but its content is not the foreign volume's key.
    let area: (u64, usize) = {
        let area = &token["keyslots"][target.keyslot.to_string()]["area"];
        let number = |name: &str| area[name].as_str().unwrap().parse::<u64>().unwrap();
        (number("offset"), usize::try_from(number("size")).unwrap())
    };
    let start = usize::try_from(area.0).unwrap();
    let pointer = format!("/keyslots/{}", target.keyslot);
    let dressed = dressed
        .set(&pointer, &token["keyslots"][target.keyslot.to_string()])
        .bytes(area.0, &target.sound[start..start + area.1]);
    target.refuses(&dressed, "keyslot-not-opened", "token and keyslot");
    // With the digest, too, it is the owner's key again; only the UUID and the data differ.
    let dressed = dressed.set("/digests", &token["digests"]);
    target.refuses(&dressed, "binding-violated", "token, keyslot and digest");
    target.opens(&target.forge());
}

#[test]
fn v6_copies_that_tell_different_stories_are_refused() {
    let target = Target::new();
    let sequence = target.forge().primary.sequence_id();
    let forged = |change: &dyn Fn(&mut Forge)| {
        let mut forge = target.forge();
        change(&mut forge);
        forge
    };
    let null = |json: &mut Value| json["segments"]["0"]["encryption"] = json!("cipher_null-ecb");
    let table: [(&str, &str, Forge); 9] = [
        ("luks-copies-differ", "another segment in the secondary", forged(&|f| f.secondary.json(null))),
        ("luks-copies-differ", "another segment in the primary", forged(&|f| f.primary.json(null))),
        ("luks-copies-differ", "another label", forged(&|f| f.secondary.set(Field::Label, b"other\0"))),
        (
            "luks-copies-differ",
            "another UUID",
            forged(&|f| {
                f.secondary.set(Field::Uuid, b"6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1\0");
            }),
        ),
        (
            "luks-copies-sequence",
            "ages apart",
            forged(&|f| {
                f.secondary.set(Field::SequenceId, &(sequence + 2).to_be_bytes());
            }),
        ),
        (
            "luks-copies-sequence",
            "the end of time",
            forged(&|f| {
                f.secondary.set(Field::SequenceId, &u64::MAX.to_be_bytes());
            }),
        ),
        (
            "luks-cipher-null",
            "a newer copy, as of an interrupted write",
            forged(&|f| {
                f.secondary.set(Field::SequenceId, &(sequence + 1).to_be_bytes());
                f.secondary.json(null);
            }),
        ),
        (
            "luks-cipher-null",
            "the primary damaged, the secondary forged",
            forged(&|f| {
                f.primary.set(Field::HeaderOffset, &[0, 1]);
                f.secondary.json(null);
            }),
        ),
        (
            "luks-cipher-null",
            "the secondary damaged, the primary forged",
            forged(&|f| {
                f.secondary.set(Field::HeaderOffset, &[0, 1]);
                f.primary.json(null);
            }),
        ),
    ];
    for (slug, attack, forge) in &table {
        target.refuses(forge, slug, attack);
    }
    target.opens(&target.forge());
}

#[test]
fn v7_what_two_parsers_read_differently_is_refused() {
    let target = Target::new();
    let table = [
        (
            "luks-duplicate-key",
            r#""encryption":"aes-xts-plain64""#,
            r#""encryption":"cipher_null-ecb","encryption":"aes-xts-plain64""#,
        ),
        (
            "luks-duplicate-key",
            r#""encryption":"aes-xts-plain64""#,
            r#""encryption":"aes-xts-plain64","encryption":"cipher_null-ecb""#,
        ),
        ("luks-duplicate-key", r#""segments":{"#, r#""segments":{},"segments":{"#),
        ("luks-duplicate-key", r#""type":"crypt""#, r#""\u0074ype":"linear","type":"crypt""#),
        ("luks-metadata", r#""type":"crypt""#, r#""TYPE":"linear","type":"crypt""#),
        ("luks-metadata", r#""iv_tweak":"0""#, r#""iv_tweak":"00""#),
        ("luks-metadata", r#""iv_tweak":"0""#, r#""iv_tweak":"+0""#),
        ("luks-metadata", r#""iv_tweak":"0""#, r#""iv_tweak":" 0""#),
        ("luks-metadata", r#""iv_tweak":"0""#, r#""iv_tweak":0"#),
        ("luks-metadata", r#""sector_size":4096"#, r#""sector_size":"512""#),
        ("luks-json-number", r#""sector_size":4096"#, r#""sector_size":4.096e3"#),
        ("luks-json-number", r#""sector_size":4096"#, r#""sector_size":4096.0"#),
        ("luks-json-number", r#""sector_size":4096"#, r#""sector_size":04096"#),
        ("luks-json", r#""sector_size":4096"#, r#""sector_size":4096/* */"#),
        ("luks-json", r#""type":"crypt""#, r#""type":"crypt\u0000linear""#),
        ("luks-json-trailing", "", "\0{}"),
        ("luks-json", "", "{}"),
    ];
    for (slug, from, to) in table {
        let forged = target.forge().text(|text| {
            assert!(text.contains(from), "{from} in {text}");
            if from.is_empty() { format!("{text}{to}") } else { text.replacen(from, to, 1) }
        });
        target.refuses(&forged, slug, to);
    }
    target.opens(&target.forge());
}

#[test]
fn v8_redirected_areas_are_refused() {
    let target = Target::new();
    let json: Value = serde_json::from_str(&target.forge().primary.text()).unwrap();
    target.refuses_each(&[
        ("luks-area-range", "/keyslots/K/area/offset", json!("0")),
        ("luks-area-range", "/keyslots/K/area/offset", json!("16384")),
        ("luks-area-range", "/keyslots/K/area/offset", json!("16777216")),
        ("luks-area-range", "/keyslots/K/area/offset", json!("16773120")),
        ("luks-area-range", "/keyslots/K/area/offset", json!("18446744073709547520")),
        ("luks-area-range", "/keyslots/K/area/offset", json!("290817")),
        ("luks-area-range", "/keyslots/K/area/size", json!("18446744073709547520")),
        ("luks-area-range", "/keyslots/K/area/size", json!("4096")),
        ("luks-area-overlap", "/keyslots/K/area/offset", json["keyslots"]["0"]["area"]["offset"].clone()),
        ("luks-area-size", "/config/keyslots_size", json!("18446744073709547520")),
        ("luks-area-size", "/config/json_size", json!("16384")),
        ("luks-segment-range", "/segments/0/offset", json!("32768")),
        ("luks-segment-range", "/segments/0/offset", json!("18446744073709547520")),
        ("luks-segment-range", "/segments/0/size", json!("18446744073709547520")),
    ]);
}

#[test]
fn v9_costs_that_would_take_the_machine_are_refused() {
    let target = Target::new();
    let bomb = |time: u32, memory: u32, cpus: u32| {
        json!({"type": "argon2id", "time": time, "memory": memory, "cpus": cpus,
            "salt": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="})
    };
    target.refuses_each(&[
        ("luks-kdf-cost", "/keyslots/K/kdf", bomb(4, 1 << 22, 4)),
        ("luks-kdf-cost", "/keyslots/K/kdf", bomb(u32::MAX, 1024, 1)),
        ("luks-kdf-cost", "/keyslots/K/kdf", bomb(1 << 12, 1 << 20, 4)),
        ("luks-kdf-cost", "/keyslots/K/kdf", bomb(4, 1024, u32::MAX)),
        ("luks-kdf-cost", "/keyslots/K/kdf/iterations", json!(u32::MAX)),
        ("luks-metadata", "/keyslots/K/kdf/iterations", json!(u64::MAX)),
        ("luks-kdf-cost", "/digests/0/iterations", json!(u32::MAX)),
        ("luks-split", "/keyslots/K/af/stripes", json!(u32::MAX)),
        ("luks-key-size", "/keyslots/K/key_size", json!(u32::MAX)),
    ]);
    // No boot tries the bomb in a keyslot that no token names.
    target.opens(&target.forge().set("/keyslots/0/kdf", &bomb(u32::MAX, 1 << 22, 4)));
}

#[test]
fn v10_an_older_header_opens_only_as_a_whole() {
    let target = Target::new();
    // A revocation: another keyslot is added and removed, which increases the sequence number.
    let (path, key) = (target.image.path(), target.image.key_file());
    std::fs::write(&path, &target.sound).unwrap();
    let added = ["luksAddKey", "--batch-mode", "--key-slot=7", "--new-keyfile", text(&key)];
    target.image.cryptsetup(&[&added, &FAST[..]].concat());
    target.image.cryptsetup(&["luksKillSlot", "--batch-mode", text(&path), "7"]);
    let today = std::fs::read(target.image.path()).unwrap();
    target.opens(&Forge::of(&today));
    let (old, new) = (target.forge(), Forge::of(&today));
    assert!(new.primary.sequence_id() > old.primary.sequence_id() + 1);
    let mut mixed = new.clone();
    mixed.primary = old.primary.clone();
    target.refuses(&mixed, "luks-copies-sequence", "the primary copy of yesterday");
    let mut mixed = new;
    mixed.secondary = old.secondary.clone();
    target.refuses(&mixed, "luks-copies-sequence", "the secondary copy of yesterday");
    // Not claimed: nothing in a complete old disk shows that it is old.
    target.opens(&old);
}

#[test]
fn v11_integrity_is_refused_and_so_is_its_removal() {
    let target = Target::new();
    let integrity =
        json!({"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"});
    let with = target.forge().json(|json| {
        json["segments"]["0"]["integrity"] = integrity.clone();
        for keyslot in json["keyslots"].as_object_mut().unwrap().values_mut() {
            keyslot["key_size"] = json!(96);
            keyslot["area"]["size"] = json!("385024");
        }
        let number = target.keyslot.to_string();
        json["keyslots"][&number]["area"]["offset"] = json!("524288");
    });
    target.refuses(&with, "luks-integrity", "AES-XTS with HMAC, as cryptsetup formats it");
    let without = with.json(|json| drop(json["segments"]["0"].as_object_mut().unwrap().remove("integrity")));
    target.refuses(&without, "luks-key-size", "the same, stripped of its integrity");
    target.opens(&target.forge());
}
