//! Tests the log in a temporary directory.

use super::*;
use crate::base::error::Failure;

fn host() -> (tempfile::TempDir, MeasurementLog) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("proc/sys/kernel/random")).unwrap();
    fs::write(root.path().join(BOOT_ID), "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\n").unwrap();
    fs::write(root.path().join(UPTIME), "12.34 20.00\n").unwrap();
    let log = MeasurementLog::new(root.path());
    (root, log)
}

fn record(digests: &[(Bank, Vec<u8>)]) -> Record<'_> {
    Record { pcr: Pcr::FENCE, digests, description: "cryptsetup:root:x", event: Some("volume-key") }
}

#[test]
fn a_record_has_systemds_members() {
    let (root, log) = host();
    let digests = [(Bank::Sha1, vec![0xaa; 20]), (Bank::Sha256, vec![0xbb; 32])];
    for _ in 0..2 {
        log.begin().unwrap().append(&record(&digests)).unwrap();
    }
    let text = fs::read_to_string(root.path().join(LOG)).unwrap();
    let records: Vec<&str> = text.split('\x1e').collect();
    assert_eq!((records.len(), records[0]), (3, ""));
    for record in &records[1..] {
        assert!(record.ends_with('\n'));
        let value: serde_json::Value = serde_json::from_str(record).unwrap();
        let expected = json!({
            "pcr": 15,
            "digests": [
                { "hashAlg": "sha1", "digest": "aa".repeat(20) },
                { "hashAlg": "sha256", "digest": "bb".repeat(32) },
            ],
            "content_type": "systemd",
            "content": {
                "string": "cryptsetup:root:x",
                "bootId": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
                "timestamp": 12_340_000,
                "eventType": "volume-key",
            },
        });
        assert_eq!(value, expected);
    }
}

#[test]
fn our_records_have_the_members_of_a_real_one() {
    let (root, log) = host();
    log.begin().unwrap().append(&record(&[(Bank::Sha256, vec![0; 32])])).unwrap();
    let text = fs::read_to_string(root.path().join(LOG)).unwrap();
    let ours: serde_json::Value = serde_json::from_str(text.trim_start_matches('\x1e')).unwrap();
    let real: serde_json::Value = serde_json::from_str(REAL).unwrap();
    let members =
        |value: &serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(members(&ours), members(&real));
    assert_eq!(members(&ours["content"]), members(&real["content"]));
    assert_eq!(members(&ours["digests"][0]), members(&real["digests"][0]));
    assert_eq!(ours["content"]["eventType"], real["content"]["eventType"]);
}

#[test]
fn only_root_reads_a_clean_log() {
    let (root, log) = host();
    let mode = || fs::metadata(root.path().join(LOG)).unwrap().permissions().mode() & 0o7777;
    let pending = log.begin().unwrap();
    assert_eq!(mode(), 0o1600);
    pending.append(&record(&[])).unwrap();
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_log_that_lacks_a_record_is_not_continued() {
    let (_root, log) = host();
    drop(log.begin().unwrap());
    assert_eq!(log.begin().unwrap_err().slug(), "measurement-log-dirty");
}

#[test]
fn a_symlink_is_not_followed() {
    let (root, log) = host();
    fs::create_dir_all(root.path().join("run/log/systemd")).unwrap();
    std::os::unix::fs::symlink("/nowhere", root.path().join(LOG)).unwrap();
    assert_eq!(log.begin().unwrap_err().slug(), "measurement-log");
}

// The second record of /run/log/systemd/tpm2-measure.log after a boot of Debian trixie (systemd 257.9).
const REAL: &str = r#"{"pcr":15,"digests":[{"hashAlg":"sha256","digest":"8ae0fc54da5ced4fa654de040fc186f5158a4ac122e902503ee2e25781ebddbc"}],"content_type":"systemd","content":{"string":"cryptsetup:root:d181307a-f778-4551-8cee-347ba41ea803","bootId":"8f97208f7396470fa02811c803780d51","timestamp":42190574,"eventType":"volume-key"}}"#;
