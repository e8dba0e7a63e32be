//! All scenarios, one property or attack each.

use crate::scenario::Scenario;

pub mod demo;
pub mod stock;

/// In the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario { name: "demo", about: "A Secure Boot UKI opens its root volume from the TPM, unattended", run: demo::run },
    Scenario { name: "stock", about: "The harness itself: systemd-cryptsetup opens the same volume", run: stock::run },
];
