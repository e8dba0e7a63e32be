//! The measured configuration of key brokers: which ones, what identifies them, where keys lie, how long to
//! wait. Values out of range are refused.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::protocol::ResourceTemplate;
use super::server::Server;
use crate::network::Endpoint;

/// The member `kbs` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The key brokers, asked in this order.
    pub servers: Servers,
    /// Where a volume's key lies.
    pub resource: ResourceTemplate,
    /// What proves the state of this machine.
    #[serde(default)]
    pub evidence: EvidenceKind,
    /// How long connecting to one key broker may take, TLS included.
    #[serde(default)]
    pub connect_timeout_seconds: ConnectTimeout,
    /// How long the whole attestation may take.
    #[serde(default)]
    pub deadline_seconds: Deadline,
    /// When the image was built. The clock is untrusted, so certificates are judged at the later of the two.
    #[serde(default)]
    pub not_before: ImageTime,
    /// Init-data (TOML), sent along so that policies can read it; the platform's evidence carries its digest.
    /// A TPM's quote does not, so with it init-data would prove nothing and is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_data: Option<String>,
}

impl Settings {
    /// The deadline of an attestation that starts now.
    #[must_use]
    pub fn until(&self) -> Instant {
        Instant::now() + self.deadline_seconds.duration()
    }

    /// The earliest time that we accept, in seconds since 1970.
    #[must_use]
    pub fn earliest(&self) -> u64 {
        self.not_before.0.max(RELEASED)
    }
}

/// Seconds since 1970, up to the year 2100. Milliseconds taken for seconds would make every certificate
/// expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct ImageTime(u64);

impl TryFrom<u64> for ImageTime {
    type Error = &'static str;

    fn try_from(seconds: u64) -> Result<Self, Self::Error> {
        if seconds <= LATEST {
            Ok(Self(seconds))
        } else {
            Err("kbs.not_before is seconds since 1970, at most 4102444800 (the year 2100): date +%s")
        }
    }
}

impl From<ImageTime> for u64 {
    fn from(time: ImageTime) -> Self {
        time.0
    }
}

/// One to eight key brokers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Server>", into = "Vec<Server>")]
pub struct Servers(Vec<Server>);

impl Servers {
    /// In order; never empty.
    #[must_use]
    pub fn as_slice(&self) -> &[Server] {
        &self.0
    }

    /// Their addresses.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint =
            |server: &Server| Endpoint { host: server.url.host().to_owned(), port: server.url.port() };
        self.0.iter().map(endpoint).collect()
    }
}

impl TryFrom<Vec<Server>> for Servers {
    type Error = &'static str;

    fn try_from(servers: Vec<Server>) -> Result<Self, Self::Error> {
        if (1..=8).contains(&servers.len()) {
            Ok(Self(servers))
        } else {
            Err("kbs.servers has 1 to 8 servers")
        }
    }
}

impl From<Servers> for Vec<Server> {
    fn from(servers: Servers) -> Self {
        servers.0
    }
}

/// The source of evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A quote by the TPM.
    #[default]
    Tpm,
    /// Trustee's test evidence, which proves nothing.
    #[cfg(feature = "test-double")]
    Sample,
}

impl EvidenceKind {
    /// Whether it requires a TPM.
    #[must_use]
    pub const fn needs_tpm(self) -> bool {
        match self {
            Self::Tpm => true,
            #[cfg(feature = "test-double")]
            Self::Sample => false,
        }
    }

    /// Whether it carries the digest of init-data.
    #[must_use]
    pub const fn binds_init_data(self) -> bool {
        match self {
            Self::Tpm => false,
            #[cfg(feature = "test-double")]
            Self::Sample => true,
        }
    }
}

macro_rules! seconds {
    ($(#[$doc:meta])* $type:ident, $default:literal, $range:expr, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $type(u32);

        impl $type {
            /// As a duration.
            #[must_use]
            pub fn duration(self) -> Duration {
                Duration::from_secs(u64::from(self.0))
            }
        }

        impl Default for $type {
            fn default() -> Self {
                Self($default)
            }
        }

        impl TryFrom<u32> for $type {
            type Error = &'static str;

            fn try_from(seconds: u32) -> Result<Self, Self::Error> {
                if $range.contains(&seconds) { Ok(Self(seconds)) } else { Err($what) }
            }
        }

        impl From<$type> for u32 {
            fn from(timeout: $type) -> Self {
                timeout.0
            }
        }
    };
}

seconds!(
    /// Seconds to connect to a key broker: 1 to 60.
    ConnectTimeout,
    5,
    (1..=60),
    "kbs.connect_timeout_seconds is 1 to 60"
);
seconds!(
    /// Seconds for the whole attestation, all key brokers and attempts: 1 to 200. Together with the 240 for a
    /// disk, this stays below the unit's own limit of 480.
    Deadline,
    60,
    (1..=200),
    "kbs.deadline_seconds is 1 to 200"
);

/// 2026-11-01: no machine that runs this version has an earlier clock. Raise it with every release. A
/// constant, so that the executable stays reproducible.
const RELEASED: u64 = 1_793_491_200;
/// 2100-01-01.
const LATEST: u64 = 4_102_444_800;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn settings(change: impl FnOnce(&mut Value)) -> Result<Settings, serde_json::Error> {
        let mut value = json!({
            "servers": [{"url": "https://kbs.example:8080", "spki": "5a".repeat(32)}],
            "resource": "default/disk/{uuid}"
        });
        change(&mut value);
        serde_json::from_value(value)
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let settings = settings(|_| ()).unwrap();
        assert_eq!(settings.evidence, EvidenceKind::Tpm);
        assert_eq!(settings.deadline_seconds.duration(), Duration::from_secs(60));
        assert_eq!(settings.earliest(), RELEASED);
        let again: Settings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn what_is_out_of_range_or_unknown_is_refused() {
        let changes: [fn(&mut Value); 11] = [
            |value| value["servers"] = json!([]),
            |value| value["servers"] = vec![value["servers"][0].clone(); 9].into(),
            |value| value["servers"][0]["verify"] = json!(false),
            |value| value["resource"] = json!("disk"),
            |value| value["deadline_seconds"] = json!(0),
            |value| value["deadline_seconds"] = json!(201),
            |value| value["connect_timeout_seconds"] = json!(61),
            |value| value["evidence"] = json!("none"),
            |value| value["deadline"] = json!(1),
            |value| value["not_before"] = json!(-1),
            |value| value["not_before"] = json!(4_102_444_801_u64),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(settings(change).is_err(), "{number}");
        }
    }

    #[test]
    fn milliseconds_are_not_taken_for_the_images_time() {
        let said = |time: u64| settings(|value| value["not_before"] = json!(time));
        let error = said(1_793_491_200_000).unwrap_err().to_string();
        assert!(error.contains("kbs.not_before is seconds since 1970"), "{error}");
        let again = serde_json::to_value(said(1_793_491_201).unwrap()).unwrap();
        assert_eq!(again["not_before"], 1_793_491_201);
    }

    #[test]
    fn a_new_version_has_a_new_earliest_time() {
        let pair = (env!("CARGO_PKG_VERSION"), RELEASED);
        assert_eq!(pair, ("0.1.0", 1_793_491_200), "raise RELEASED with every version, then this pair");
    }

    #[test]
    #[cfg(not(feature = "test-double"))]
    fn a_release_has_neither_plain_http_nor_sample_evidence() {
        assert!(settings(|value| value["evidence"] = json!("sample")).is_err());
        assert!(settings(|value| value["servers"] = json!([{"url": "http://kbs.example"}])).is_err());
    }

    #[test]
    fn the_clock_cannot_be_earlier_than_the_image() {
        assert_eq!(
            settings(|value| value["not_before"] = json!(RELEASED + 7)).unwrap().earliest(),
            RELEASED + 7
        );
        assert_eq!(settings(|value| value["not_before"] = json!(7)).unwrap().earliest(), RELEASED);
    }
}
