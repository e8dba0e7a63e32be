//! How long to wait for the root volume's disk, limited so that the unit's own timeout does not expire first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds to wait for a disk: 1 to 240. Together with the 200 of an attestation, this stays below the unit's
/// own limit of 480.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct DeviceTimeout(u32);

impl DeviceTimeout {
    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

impl Default for DeviceTimeout {
    fn default() -> Self {
        Self(60)
    }
}

impl TryFrom<u32> for DeviceTimeout {
    type Error = &'static str;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if (1..=240).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err("a device timeout is 1 to 240 seconds")
        }
    }
}

impl From<DeviceTimeout> for u32 {
    fn from(timeout: DeviceTimeout) -> Self {
        timeout.0
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn device_timeouts_stay_below_the_units_limit() {
        assert!(Config::parse(br#"{"device_timeout_seconds": 240}"#).is_ok());
        for seconds in ["0", "241", "-1", "1.5"] {
            let text = format!(r#"{{"device_timeout_seconds": {seconds}}}"#);
            assert!(Config::parse(text.as_bytes()).is_err(), "{seconds}");
        }
    }
}
