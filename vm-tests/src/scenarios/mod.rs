//! All scenarios, one property or attack each.

use crate::scenario::Scenario;

pub mod attested;
pub mod changing_disk;
pub mod cloned_boot_disk;
pub mod debian_12;
pub mod debian_sid;
pub mod demo;
pub mod direct_boot;
pub mod fence;
pub mod foreign_disk_first;
pub mod full_userspace;
pub mod grown_disk;
pub mod hostile_servers;
pub mod killed;
pub mod late_disk;
pub mod missing_disk;
pub mod networks;
pub mod no_secure_boot;
pub mod no_tpm;
pub mod no_tpm_attested;
pub mod null_cipher;
pub mod opened_by_systemd;
pub mod other_command_line;
pub mod other_disks;
pub mod plain_root;
pub mod signed_policy;
pub mod strangers_volume;
pub mod systemd_formula;
pub mod systemd_variables;
pub mod systemds_signed_token;
pub mod systemds_token;
pub mod tpm_nodes;
pub mod writers;

/// In the order in which they start: the longest first, so that none of them keeps a single worker busy at
/// the end.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "writers",
        about: "tokens of systemd-cryptenroll 252, 254 and 257 of every kind are told from stale ones in one boot",
        run: writers::run,
    },
    Scenario {
        name: "debian-12",
        about: "a guest of Debian 12 (systemd 252, dracut 059, Linux 6.1) opens its root, and all of it starts",
        run: debian_12::run,
    },
    Scenario {
        name: "null-cipher",
        about: "headers with the null cipher, in a keyslot or in the segment, are refused; systemd-cryptsetup opens them",
        run: null_cipher::run,
    },
    Scenario {
        name: "no-secure-boot",
        about: "without Secure Boot, a key broker decides by PCRs 4, 11 and 12",
        run: no_secure_boot::run,
    },
    Scenario {
        name: "stateless-tpm",
        about: "a TPM that is new at every boot needs the key broker every time, and nothing is written to the header",
        run: attested::stateless_tpm,
    },
    Scenario {
        name: "network-manager",
        about: "an image with NetworkManager instead of systemd-networkd attests",
        run: networks::network_manager,
    },
    Scenario {
        name: "signed-policy",
        about: "a volume opens with each UKI that the policy key signed, and with no other",
        run: signed_policy::run,
    },
    Scenario {
        name: "grown-disk",
        about: "a root whose partition grew to an odd size, and that got a costly recovery key, opens again",
        run: grown_disk::run,
    },
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
        name: "systemds-signed-token",
        about: "signed policies of systemd-cryptenroll open with the signature that systemd-stub hands over",
        run: systemds_signed_token::run,
    },
    Scenario {
        name: "opened-by-systemd",
        about: "systemd-cryptsetup opens volumes that we enrolled, by value and by signature",
        run: opened_by_systemd::run,
    },
    Scenario {
        name: "changing-disk",
        about: "a disk that shows another header once the first one was read changes nothing",
        run: changing_disk::run,
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
        name: "foreign-disk-first",
        about: "a stranger's disk that is there first is refused, and ours opens when it appears",
        run: foreign_disk_first::run,
    },
    Scenario {
        name: "cloned-boot-disk",
        about: "of two disks with the same UUIDs the one opens whose volume is ours",
        run: cloned_boot_disk::run,
    },
    Scenario {
        name: "xfs-on-scsi",
        about: "an xfs root on a SCSI disk is mounted with the options of the measured configuration",
        run: other_disks::xfs_on_scsi,
    },
    Scenario {
        name: "btrfs-on-nvme",
        about: "a btrfs subvolume opens on an enlarged NVMe disk with sectors of 4096 bytes",
        run: other_disks::btrfs_on_nvme,
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
        name: "tpm-nodes",
        about: "/dev/tpm0 is taken, and the resource manager where somebody holds it",
        run: tpm_nodes::run,
    },
    Scenario {
        name: "systemd-variables",
        about: "EFI variables by which a host steers systemd are refused before a key is released",
        run: systemd_variables::run,
    },
    Scenario { name: "no-tpm", about: "a host that hides the TPM gets a refusal", run: no_tpm::run },
    Scenario {
        name: "attested",
        about: "where the TPM gives nothing, a key broker opens the root; where it does, no packet is sent",
        run: attested::run,
    },
    Scenario {
        name: "attested-debian-12",
        about: "a guest of Debian 12 falls back to a key broker with its own network",
        run: debian_12::attested,
    },
    Scenario {
        name: "attested-denied",
        about: "a UKI that the key broker does not know gets no key, and the machine ends fenced",
        run: attested::denied,
    },
    Scenario {
        name: "other-volumes-key",
        about: "what a key broker gives out for another volume is refused",
        run: attested::other_volumes_key,
    },
    Scenario {
        name: "no-tpm-attested",
        about: "an image for machines without a TPM opens its root by other evidence, and warns that there is no fence",
        run: no_tpm_attested::run,
    },
    Scenario {
        name: "hostile-servers",
        about: "servers that are down, silent, expired, strangers or lying are each refused by name in the initramfs",
        run: hostile_servers::run,
    },
    Scenario {
        name: "two-servers",
        about: "a dead key broker does not keep the machine from the next, which it finds by name",
        run: networks::two_servers,
    },
    Scenario {
        name: "ipv6-only",
        about: "a network without IPv4 suffices to attest",
        run: networks::ipv6_only,
    },
    Scenario {
        name: "static-network",
        about: "a network that gives out no addresses is used with the administrator's",
        run: networks::fixed,
    },
    Scenario {
        name: "no-dhcp",
        about: "a network on which nobody answers ends in a fenced power-off",
        run: networks::nobody,
    },
];

/// In a full run only: scenarios on Debian sid, which changes from day to day.
pub const FULL: &[Scenario] = &[
    Scenario {
        name: "debian-sid",
        about: "a guest of Debian sid opens its root behind systemd's separator of PCRs, and all of it starts",
        run: debian_sid::run,
    },
    Scenario {
        name: "attested-debian-sid",
        about: "a guest of Debian sid falls back to a key broker with its own network",
        run: debian_sid::attested,
    },
    Scenario {
        name: "writers-sid",
        about: "tokens of sid's systemd-cryptenroll open, with policy references and own parent keys, too",
        run: writers::sid,
    },
];
