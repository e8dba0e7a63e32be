//! All scenarios, one property or attack each.

use crate::scenario::Scenario;

pub mod debian_12;
pub mod debian_sid;
pub mod demo;
pub mod direct_boot;
pub mod fence;
pub mod full_userspace;
pub mod killed;
pub mod late_disk;
pub mod missing_disk;
pub mod no_tpm;
pub mod opened_by_systemd;
pub mod other_command_line;
pub mod plain_root;
pub mod strangers_volume;
pub mod systemd_formula;
pub mod systemds_token;

/// In the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "demo",
        about: "a Secure Boot UKI without root= opens its root from the TPM, unattended",
        run: demo::run,
    },
    Scenario {
        name: "full-userspace",
        about: "systemd in the real root reaches multi-user and finds every device link",
        run: full_userspace::run,
    },
    Scenario {
        name: "other-command-line",
        about: "a UKI with another command line, signed by the same key, does not open the root",
        run: other_command_line::run,
    },
    Scenario {
        name: "fence",
        about: "tpm2-tools unseal the secret before the fence, and cannot after it",
        run: fence::run,
    },
    Scenario {
        name: "systemd-formula",
        about: "PCR 15 is what systemd-cryptsetup makes of the same volume",
        run: systemd_formula::run,
    },
    Scenario {
        name: "strangers-volume",
        about: "a volume that the host made for this TPM is not the owner's, and is refused",
        run: strangers_volume::run,
    },
    Scenario {
        name: "systemds-token",
        about: "what systemd-cryptenroll wrote opens for an image that asks for it, and for no other",
        run: systemds_token::run,
    },
    Scenario {
        name: "opened-by-systemd",
        about: "systemd-cryptsetup opens a volume that we enrolled",
        run: opened_by_systemd::run,
    },
    Scenario {
        name: "plain-root",
        about: "an unencrypted file system in the place of the root is refused",
        run: plain_root::run,
    },
    Scenario {
        name: "late-disk",
        about: "a disk that appears late opens as soon as it is there",
        run: late_disk::run,
    },
    Scenario {
        name: "missing-disk",
        about: "a disk that never appears ends in a power-off, not in a prompt",
        run: missing_disk::run,
    },
    Scenario {
        name: "direct-boot",
        about: "a UKI that the host hands to the firmware opens the root without loader variables",
        run: direct_boot::run,
    },
    Scenario {
        name: "killed",
        about: "killing the process while it talks to the TPM ends in a fenced power-off",
        run: killed::run,
    },
    Scenario {
        name: "debian-12",
        about: "a guest of Debian 12 (systemd 252, dracut 059, Linux 6.1) opens its root, and all of it starts",
        run: debian_12::run,
    },
    Scenario { name: "no-tpm", about: "a host that hides the TPM gets a refusal", run: no_tpm::run },
];

/// In a full run only: what stands on a distribution that moves from day to day.
pub const FULL: &[Scenario] = &[Scenario {
    name: "debian-sid",
    about: "a guest of Debian sid opens its root behind systemd's separator of PCRs, and all of it starts",
    run: debian_sid::run,
}];
