//! The releases of Debian that guests come from, and how they differ: packages, and what happens to PCRs in
//! the initrd before a volume is unlocked.

use sha2::{Digest, Sha256};

/// A release of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12: systemd 252, dracut 059, Linux 6.1.
    Bookworm,
    /// Debian 13: systemd 257, dracut 106, Linux 6.12. The tools come from it, too.
    Trixie,
    /// The rolling one. It moves from day to day: what fails here may be its fault.
    Sid,
}

impl Suite {
    /// The name in Debian's archive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The packages of a guest, sorted: its kernel and dracut, its userspace, and TPM tools to judge it by.
    /// Those of bookworm and sid hold all that systemd-cryptenroll needs to talk to swtpm as well.
    pub fn guest_packages(self) -> Vec<&'static str> {
        let own = match self {
            Self::Bookworm => BOOKWORM,
            Self::Trixie => TRIXIE,
            Self::Sid => SID,
        };
        let mut packages = [GUEST, own].concat();
        packages.sort_unstable();
        packages
    }

    /// Whether systemd (from 261 on) separates what the firmware measured from what the system will: it
    /// extends PCRs 0 to 7, 9 and 12 to 14 in the initrd, before volumes are unlocked.
    pub fn separates(self) -> bool {
        self == Self::Sid
    }

    /// The value of PCR 7 when a volume is unlocked, from the one that the firmware left.
    pub fn pcr7(self, firmwares: &[u8]) -> Vec<u8> {
        if self.separates() {
            Sha256::digest([firmwares, &separator()].concat()).to_vec()
        } else {
            firmwares.to_vec()
        }
    }
}

/// What systemd extends PCRs with as separator.
pub fn separator() -> Vec<u8> {
    Sha256::digest(SEPARATOR).to_vec()
}

/// systemd-pcrosseparator.service(8), systemd 262.
const SEPARATOR: &str = "os-separator";

const GUEST: &[&str] = &[
    "cryptsetup-bin",
    "dbus",
    "dmsetup",
    "dracut",
    "e2fsprogs",
    "inotify-tools",
    "kmod",
    "linux-image-cloud-amd64",
    "systemd",
    "systemd-sysv",
    "tpm2-tools",
    "udev",
    "util-linux",
    "xz-utils",
    "zstd",
];
const BOOKWORM: &[&str] = &["libtss2-tcti-device0", "libtss2-tcti-swtpm0", "systemd-boot-efi"];
const TRIXIE: &[&str] = &["libtss2-tcti-device0t64", "systemd-cryptsetup"];
const SID: &[&str] = &[
    "libtss2-tcti-device0t64",
    "libtss2-tcti-swtpm0t64",
    "systemd-boot-efi",
    "systemd-cryptsetup",
    "systemd-tpm",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{hex, unhex};

    /// PCR 7 as `tpm2_pcrread sha256:7` printed it in a guest of Debian 12 and in one of sid, on the same
    /// firmware.
    const FIRMWARES: &str = "49ac4d98ba67d7312b3832b8a48b77b49b74b5b6f64cca0322092c832e029855";
    const SEPARATED: &str = "4b7d4cb8bdf9c6b9133d1805b0eb2c3e970a4d2d66380e64f7c2e0afbc70af3e";

    #[test]
    fn behind_the_separator_pcr_7_is_what_tpm2_pcrread_printed_there() {
        let firmwares = unhex(FIRMWARES).unwrap();
        assert_eq!(hex(&Suite::Trixie.pcr7(&firmwares)), FIRMWARES);
        assert_eq!(hex(&Suite::Bookworm.pcr7(&firmwares)), FIRMWARES);
        assert_eq!(hex(&Suite::Sid.pcr7(&firmwares)), SEPARATED);
    }

    #[test]
    fn a_guests_packages_are_sorted_and_none_is_there_twice() {
        for suite in [Suite::Bookworm, Suite::Trixie, Suite::Sid] {
            assert!(suite.guest_packages().is_sorted_by(|a, b| a < b), "{suite:?}");
        }
    }
}
