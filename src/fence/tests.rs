//! Tests the fence against a fake TPM; golden values are from OpenSSL.

use super::*;
use crate::base::error::Failure;
use crate::base::secret::Secret;
use crate::tpm::Verb;
use crate::tpm::fake::FakeTpm;

fn uuid() -> Uuid {
    Uuid::parse("0f3c5d8e-7b2a-4c19-9d6e-5a4b3c2d1e0f").unwrap()
}

fn key() -> VolumeKey {
    VolumeKey::new(Secret::new((0..64).collect()))
}

fn no_log() -> (tempfile::TempDir, MeasurementLog) {
    let root = tempfile::tempdir().unwrap();
    let log = MeasurementLog::new(root.path());
    (root, log)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn measurements_are_systemds_in_every_bank() {
    let description = description("root", &uuid());
    for (bank, golden) in GOLDEN {
        assert_eq!(hex(&measurement(bank, &key(), &description)), golden, "{bank}");
    }
}

#[test]
fn a_name_cannot_forge_another_volumes_description() {
    let forged = format!("cryptsetup:a\\x3ab\\x5c:{}", uuid());
    assert_eq!(description("a:b\\", &uuid()), forged);
}

#[test]
fn one_command_fences_every_active_bank() {
    let mut tpm = FakeTpm::new(&Bank::ALL);
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let (_root, log) = no_log();
    let fenced = unfenced.raise(&mut tpm, &key(), "root", &uuid(), &log).unwrap();
    assert_eq!(fenced.digests().len(), 4);
    assert_eq!(tpm.log, [Verb::PcrRead, Verb::GetCapability, Verb::PcrExtend]);
    for bank in Bank::ALL {
        assert!(tpm.pcr(bank, Pcr::FENCE).iter().any(|byte| *byte != 0), "{bank}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_told_and_not_fatal() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let (_root, log) = no_log();
    let fenced = unfenced.raise(&mut tpm, &key(), "root", &uuid(), &log).unwrap();
    assert_eq!(fenced.unlogged().unwrap().slug(), "measurement-log");
}

#[test]
fn a_pcr_15_extended_in_one_bank_only_is_refused() {
    for bank in Bank::ALL {
        let mut tpm = FakeTpm::new(&Bank::ALL);
        tpm.extend(Pcr::FENCE, &[(bank, vec![1; bank.digest_size()])]).unwrap();
        assert_eq!(Unfenced::check(&mut tpm).unwrap_err().slug(), "pcr15-not-zero", "{bank}");
    }
}

#[test]
fn a_bank_that_would_stay_unfenced_is_refused() {
    for (banks, slug) in [
        (Banks { active: vec![Bank::Sha256], unknown: vec![0x0012], ..Banks::default() }, "bank-unknown"),
        (
            Banks { active: vec![Bank::Sha256], without_fence: vec![Bank::Sha1], ..Banks::default() },
            "bank-partial",
        ),
        (Banks { active: vec![Bank::Sha1, Bank::Sha256], ..Banks::default() }, "banks-changed"),
        (Banks::default(), "banks-changed"),
    ] {
        let mut tpm = FakeTpm::new(&[Bank::Sha256]);
        tpm.banks = banks;
        let unfenced = Unfenced::check(&mut tpm).unwrap();
        let (_root, log) = no_log();
        let error = unfenced.raise(&mut tpm, &key(), "root", &uuid(), &log).unwrap_err();
        assert_eq!(error.slug(), slug);
        assert!(tpm.pcr(Bank::Sha256, Pcr::FENCE).iter().all(|byte| *byte == 0));
    }
    assert_eq!(Unfenced::check(&mut FakeTpm::new(&[])).unwrap_err().slug(), "bank-none");
}

#[test]
fn a_tpm_that_fails_gives_no_proof() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    tpm.failures = vec![(Verb::PcrExtend, 0x101)];
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let (_root, log) = no_log();
    let error = unfenced.raise(&mut tpm, &key(), "root", &uuid(), &log).unwrap_err();
    assert_eq!(error.slug(), "tpm-refused");
    assert!(tpm.pcr(Bank::Sha256, Pcr::FENCE).iter().all(|byte| *byte == 0));
}

#[test]
fn a_failed_boot_is_fenced_even_beside_an_unknown_bank() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    tpm.banks.unknown = vec![0x0012];
    let (_root, log) = no_log();
    assert!(raise_for_failure(&mut tpm, &log).unwrap().is_some());
    assert_eq!(hex(tpm.pcr(Bank::Sha256, Pcr::FENCE)), FAILED_GOLDEN);
}

#[test]
fn a_failure_is_fenced_once_and_again_whenever_that_is_in_doubt() {
    let (_root, log) = no_log();
    let mut tpm = FakeTpm::new(&Bank::ALL);
    raise_for_failure(&mut tpm, &log).unwrap();
    let extends = |tpm: &FakeTpm| tpm.log.iter().filter(|verb| **verb == Verb::PcrExtend).count();
    ensure_for_failure(&mut tpm, &log).unwrap();
    assert_eq!((extends(&tpm), hex(tpm.pcr(Bank::Sha256, Pcr::FENCE)).as_str()), (1, FAILED_GOLDEN));
    // The PCR cannot be read; one bank holds another value; a volume key was measured first.
    tpm.failures = vec![(Verb::PcrRead, 0x101)];
    ensure_for_failure(&mut tpm, &log).unwrap();
    assert_eq!(extends(&tpm), 2);
    for bank in Bank::ALL {
        let mut tpm = FakeTpm::new(&Bank::ALL);
        raise_for_failure(&mut tpm, &log).unwrap();
        tpm.pcrs.insert((bank, Pcr::FENCE), vec![0; bank.digest_size()]);
        ensure_for_failure(&mut tpm, &log).unwrap();
        assert!(tpm.pcr(bank, Pcr::FENCE).iter().any(|byte| *byte != 0), "{bank}");
    }
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    unfenced.raise(&mut tpm, &key(), "root", &uuid(), &log).unwrap();
    ensure_for_failure(&mut tpm, &log).unwrap();
    assert_eq!(extends(&tpm), 2);
}

// key=$(python3 -c 'print(bytes(range(64)).hex())')
// printf cryptsetup:root:0f3c5d8e-7b2a-4c19-9d6e-5a4b3c2d1e0f |
//     openssl dgst -sha1 -mac HMAC -macopt hexkey:$key
// and alike -sha256, -sha384, -sha512 (OpenSSL 3.0)
const GOLDEN: [(Bank, &str); 4] = [
    (Bank::Sha1, "209c0c55d4dd71f1a0e95fa7ee932183b07fbfbe"),
    (Bank::Sha256, "9fb5f51db2ac54b3c330f0580e8533fd770ef4ace601aa5bca5aaeb597911597"),
    (
        Bank::Sha384,
        "b91284bf86b65b42c355652ab874f43259325ee15bda3b1c0fae6b68637156e92ffa2f59145e3fce6d4ff16d41e58343",
    ),
    (
        Bank::Sha512,
        "d660c9ea17d01315484f36b8bfd7e0f57883c0da10429e3a8268971a3d10df8598d4051792e0f8c5aa8892469651c1d8cc6908cb32e28534890678f647576d16",
    ),
];
// python3 -c 'from hashlib import sha256 as h
// print(h(bytes(32) + h(b"cvm-unlock:failed").digest()).hexdigest())'
const FAILED_GOLDEN: &str = "d712eff3f071d380a1cc723081a9ab9e28c9a33e339af3b9fd878f66844a3a72";
