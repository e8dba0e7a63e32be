use super::*;
use serde_json::{Value, json};

use crate::base::json::Json;
use crate::base::uuid::Uuid;
use crate::format::luks::metadata::{Bounds, Metadata};
use crate::format::luks::{BinaryHeader, Condition, Flag, FlagSet, HeaderSize, Label};

const VOLUME: u64 = 64 << 20;

fn base64(byte: u8) -> String {
    <base64ct::Base64 as base64ct::Encoding>::encode_string(&[byte; 32])
}

/// The metadata of the vector in `docs/binding.md`.
fn documented() -> Value {
    json!({
        "keyslots": {"3": {
            "type": "luks2", "key_size": 64,
            "af": {"type": "luks1", "stripes": 4000, "hash": "sha512"},
            "area": {
                "type": "raw", "offset": "32768", "size": "258048", "encryption": "aes-xts-plain64", "key_size": 64,
            },
            "kdf": {"type": "argon2id", "time": 4, "memory": 1_048_576, "cpus": 2, "salt": base64(0x55)},
        }},
        "tokens": {},
        "segments": {"0": {
            "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0",
            "encryption": "aes-xts-plain64", "sector_size": 4096,
        }},
        "digests": {"0": {
            "type": "pbkdf2", "keyslots": ["3"], "segments": ["0"], "hash": "sha256", "iterations": 1000,
            "salt": base64(0xd1), "digest": base64(0xd2),
        }},
        "config": {
            "json_size": "12288", "keyslots_size": "16744448", "flags": ["no-read-workqueue", "allow-discards"],
        },
    })
}

fn snapshot(json: &Value) -> Snapshot {
    let bounds = Bounds { header: HeaderSize::MIN, volume: VOLUME, sector_size: 512 };
    let flags: FlagSet = Flag::ALL.into_iter().collect();
    Snapshot {
        header: BinaryHeader {
            size: HeaderSize::MIN,
            seqid: 5,
            label: Label::parse(b"label\0"),
            subsystem: Label::default(),
            uuid: Uuid::parse("4f68bce3-e8cd-4db1-96e7-fbcaf984b709").unwrap(),
        },
        metadata: Metadata::parse(&Json::parse(json.to_string().as_bytes()).unwrap(), bounds, &flags)
            .unwrap(),
        condition: Condition::Sound,
        volume_size: VOLUME,
    }
}

fn volume_key() -> VolumeKey {
    VolumeKey::new(Secret::new((0..64).collect()))
}

fn unsealed() -> Secret {
    Secret::new((100..132).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_documented_vector_holds() {
    let message = message(&snapshot(&documented()), 3, &volume_key()).unwrap();
    let digest = <Sha256 as sha2::Digest>::digest(&message);
    // Computed by the Python program in `docs/binding.md`.
    assert_eq!(message.len(), 427);
    assert_eq!(hex(&digest), "0ec84833fa2a37b11f520d8aec65bba3385349d41b64988c581f03d280dcf673");
    let binding = Binding::compute(&unsealed(), &message);
    assert_eq!(hex(binding.bytes()), "19436f0c22ad7c92ca009414c50e681c14922a7e8a797df56c85ec58be4a045f");
    assert!(binding.verify(&unsealed(), &message));
}

#[test]
fn the_documented_signature_holds() {
    use crate::format::owner_key::{PublicKey, Signature};
    let message = message(&snapshot(&documented()), 3, &volume_key()).unwrap();
    // Made with openssl, as `docs/binding.md` describes.
    let key = PublicKey::from_pem(
        "-----BEGIN PUBLIC KEY-----\n\
         MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE52zQbabF2RHGe9UWst19eFNfCniU\n\
         Et5gPehcmDQo6SHBh7MY7/tMqbV47w67oB1wP1n+msqDWdsffdW5F2WkOg==\n\
         -----END PUBLIC KEY-----",
    );
    let signature = <base64ct::Base64 as base64ct::Encoding>::decode_vec(
        "MEUCIQDi2PE9ivmWOoAyf7AXIMIriNJHujwgXt3oo4UP++kOUQIgLs+WpUyQrTO1sAOO7nK+yZE1kCsGCmgmFFyxt2Gi7os=",
    );
    let signature = Signature::new(signature.unwrap()).unwrap();
    assert!(key.unwrap().verify(&message, &signature));
}

#[test]
fn every_edit_of_what_is_bound_breaks_the_binding() {
    let sound = message(&snapshot(&documented()), 3, &volume_key()).unwrap();
    let edits = [
        ("/segments/0/offset", json!("16785408")),
        ("/segments/0/size", json!("4096")),
        ("/segments/0/sector_size", json!(512)),
        ("/digests/0/hash", json!("sha512")),
        ("/digests/0/iterations", json!(1001)),
        ("/digests/0/salt", json!(base64(0))),
        ("/digests/0/digest", json!(base64(0))),
        ("/keyslots/3/af/hash", json!("sha256")),
        ("/keyslots/3/area/offset", json!("290816")),
        ("/keyslots/3/area/size", json!("262144")),
        ("/keyslots/3/area/key_size", json!(32)),
        ("/keyslots/3/kdf/type", json!("argon2i")),
        ("/keyslots/3/kdf/time", json!(5)),
        ("/keyslots/3/kdf/memory", json!(1024)),
        ("/keyslots/3/kdf/cpus", json!(1)),
        ("/keyslots/3/kdf/salt", json!(base64(0))),
        ("/config/flags", json!(["allow-discards"])),
    ];
    let binding = Binding::compute(&unsealed(), &sound);
    for (pointer, value) in edits {
        let mut json = documented();
        *json.pointer_mut(pointer).unwrap() = value;
        if pointer == "/digests/0/hash" {
            json["digests"]["0"]["digest"] = json!(format!("{}==", "A".repeat(86)));
        }
        let edited = message(&snapshot(&json), 3, &volume_key()).unwrap();
        assert!(!binding.verify(&unsealed(), &edited), "{pointer}");
    }
    let mut moved = documented();
    moved["keyslots"] = json!({"4": moved["keyslots"]["3"]});
    moved["digests"]["0"]["keyslots"] = json!(["4"]);
    assert_ne!(message(&snapshot(&moved), 4, &volume_key()).unwrap(), sound, "the number of the keyslot");
}

#[test]
fn another_volume_another_key_and_another_secret_break_the_binding() {
    let sound = message(&snapshot(&documented()), 3, &volume_key()).unwrap();
    let binding = Binding::compute(&unsealed(), &sound);
    let mut other = snapshot(&documented());
    other.header.uuid = Uuid::new([0; 16]);
    assert!(!binding.verify(&unsealed(), &message(&other, 3, &volume_key()).unwrap()));
    let key = VolumeKey::new(Secret::new(vec![0; 64]));
    assert!(!binding.verify(&unsealed(), &message(&snapshot(&documented()), 3, &key).unwrap()));
    assert!(!binding.verify(&Secret::new(vec![0; 32]), &sound));
}

#[test]
fn what_changes_without_the_keyslot_does_not_break_the_binding() {
    let sound = message(&snapshot(&documented()), 3, &volume_key()).unwrap();
    let mut json = documented();
    json["tokens"]["0"] = json!({"type": "x", "keyslots": []});
    json["keyslots"]["1"] = json["keyslots"]["3"].clone();
    json["keyslots"]["1"]["area"]["offset"] = json!("290816");
    json["digests"]["0"]["keyslots"] = json!(["1", "3"]);
    let mut later = snapshot(&json);
    later.header.seqid = 9;
    later.header.label = Label::parse(b"other\0");
    assert_eq!(message(&later, 3, &volume_key()).unwrap(), sound);
}

#[test]
fn a_keyslot_that_is_not_there_has_no_message() {
    let error = message(&snapshot(&documented()), 0, &volume_key()).unwrap_err();
    assert!(matches!(error, HeaderError::NoSuchKeyslot(0)));
}
