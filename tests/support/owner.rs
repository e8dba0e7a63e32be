//! The owner of the test volumes: a key pair, and a configuration that names the public key.

use serde_json::Value;

/// A configuration that names the owner's key, and nothing else.
pub fn config() -> Value {
    serde_json::json!({"authentic": {"owner_keys": [PUBLIC_KEY]}})
}

// openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256; openssl pkey -pubout. Made for these tests.
pub const PRIVATE_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHGTE9DqW3A1G9BI4\n\
V9CVWSRph9aqTeT/8vdvnZnai9yhRANCAATnbNBtpsXZEcZ71Ray3X14U18KeJQS\n\
3mA96FyYNCjpIcGHsxjv+0yptXjvDrugHXA/Wf6ayoNZ2x991bkXZaQ6\n\
-----END PRIVATE KEY-----";
pub const PUBLIC_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE52zQbabF2RHGe9UWst19eFNfCniU\n\
Et5gPehcmDQo6SHBh7MY7/tMqbV47w67oB1wP1n+msqDWdsffdW5F2WkOg==\n\
-----END PUBLIC KEY-----";
