//! The table of options. The parser and the help read it, so what one knows the other knows.

use super::command::Command::{Attest, Bind, Enroll, Inspect, Unlock};
use super::option::{Opt, Scope, Use, Value};

/// Declares each option as a static and lists them all, in the order of the help.
macro_rules! options {
    ($($option:ident: $name:literal, $short:expr, $value:expr, $scope:expr;)*) => {
        $(pub(super) static $option: Opt = Opt { name: $name, short: $short, value: $value, scope: $scope };)*

        /// Every option.
        pub(super) static ALL: &[&Opt] = &[$(&$option),*];
    };
}

/// The heading of most options.
const OPTIONS: &str = "Options";
const OPENS: &str = "What opens the volume now";
const ADDS: &str = "What is added";
const WIPES: &str = "What is taken away, after the new keys have proved themselves";
const OTHERS: &str = "Other options";

const FILE: Value = Value::Path("FILE");
const PCRS: Value =
    Value::Text { name: "PCRS", form: "PCRs such as 4+7, with values such as 7:sha256=HEX+11, or uki" };

options! {
    DRY_RUN: "dry-run", None, Value::None, Scope::After(&[Use {
        commands: &[Unlock], group: OPTIONS,
        help: "Go all the way up to the proof, but extend, map and write nothing. With DEVICE or IMAGE: that \
               volume (a LUKS2 volume, or a disk with one). Says for each token that does not open why not: \
               which PCR differs, from what to what. In a fenced boot, judges by the PCR values that its unlock \
               recorded. Asks no key broker; `attest --connect` does that",
    }]);

    SHOW_AK: "show-ak", None, Value::None, Scope::After(&[Use {
        commands: &[Attest], group: OPTIONS,
        help: "Print the attestation key only",
    }]);

    CONNECT: "connect", None, Value::None, Scope::After(&[Use {
        commands: &[Attest], group: OPTIONS,
        help: "Handshake with kbs.servers of the configuration, up to the attestation",
    }]);

    UNLOCK_KEY_FILE: "unlock-key-file", None, FILE, Scope::After(&[
        Use {
            commands: &[Enroll], group: OPENS,
            help: "Passphrase of an existing keyslot: the whole file, newline included",
        },
        Use {
            commands: &[Inspect], group: OPTIONS,
            help: "Passphrase of a keyslot: adds the volume key's digest, as a configuration pins it under \
                   authentic.volume_keys",
        },
    ]);

    UNLOCK_TPM2: "unlock-tpm2", None, Value::None, Scope::After(&[Use {
        commands: &[Enroll], group: OPENS,
        help: "The TPM, by a token that the volume has; PCR 15 must be zero",
    }]);

    TPM2_PCRS: "tpm2-pcrs", None, PCRS, Scope::After(&[Use {
        commands: &[Enroll], group: ADDS,
        help: "PCRs as systemd-cryptenroll takes them: 4+7, or with explicit values 7:sha256=HEX+11:sha256=HEX; \
               `uki` is 4+7+11+12+13. PCRs without a value are read from the TPM. PCR 15 = zero is always added: \
               it makes the key single-use per boot",
    }]);

    TPM2_PCR_BANK: "tpm2-pcr-bank", None,
        Value::Text { name: "BANK", form: "sha256, sha384, sha512 or sha1, for PCRs without a value" },
        Scope::After(&[Use {
            commands: &[Enroll], group: ADDS,
            help: "sha256 (default), sha384, sha512 or sha1",
        }]);

    TPM2_PUBLIC_KEY: "tpm2-public-key", None, FILE, Scope::After(&[Use {
        commands: &[Enroll], group: ADDS,
        help: "RSA key (PEM) whose signatures approve PCR values, as systemd-measure makes them: a new UKI then \
               needs no new enrolment. PCR 15 = zero stays by value",
    }]);

    TPM2_PUBLIC_KEY_PCRS: "tpm2-public-key-pcrs", None, PCRS, Scope::After(&[Use {
        commands: &[Enroll], group: ADDS,
        help: "PCRs that this key signs for: 11 by default",
    }]);

    TPM2_SIGNATURE: "tpm2-signature", None, FILE, Scope::After(&[
        Use {
            commands: &[Unlock], group: OPTIONS,
            help: "Signed PCR policies (tpm2-pcr-signature.json) of a dry run. By default they are where \
                   systemd-stub and systemd leave them: /.extra and systemd's directories below /etc, /run, \
                   /usr/local/lib and /usr/lib",
        },
        Use {
            commands: &[Enroll], group: ADDS,
            help: "Signatures of this key (tpm2-pcr-signature.json), for the trial and for --unlock-tpm2",
        },
        Use {
            commands: &[Bind], group: OPTIONS,
            help: "Signatures (tpm2-pcr-signature.json) for a token whose policy is signed",
        },
    ]);

    TPM2_SEAL_KEY_HANDLE: "tpm2-seal-key-handle", None,
        Value::Text { name: "HANDLE", form: "a handle in hexadecimal digits, such as 0x81000001" },
        Scope::After(&[Use {
            commands: &[Enroll], group: ADDS,
            help: "Another persistent parent key than 0x81000001",
        }]);

    PRIVATE_DB: "private-db", None, Value::None, Scope::After(&[Use {
        commands: &[Enroll], group: ADDS,
        help: "Only the owner's keys are in the Secure Boot db. Without it, PCR 11 is refused unless PCR 4 is \
               there: any system can extend 11 as this image does",
    }]);

    SIGN_KEY: "sign-key", None, FILE, Scope::After(&[
        Use {
            commands: &[Enroll], group: ADDS,
            help: "The owner's private key (PEM, PKCS#8): signs the keyslot, so that an image whose configuration \
                   names the public half can tell whose volume it is",
        },
        Use {
            commands: &[Bind], group: OPTIONS,
            help: "The owner's private key (PEM, PKCS#8); without it, the token is only bound",
        },
    ]);

    KBS: "kbs", None, FILE, Scope::After(&[Use {
        commands: &[Enroll], group: ADDS,
        help: "A new key for a key broker, which releases it when the TPM does not unseal. FILE, which must not \
               exist yet, becomes the key document: upload it to the broker (docs/trustee), then remove it. Needs \
               no TPM",
    }]);

    KBS_PATH: "kbs-path", None,
        Value::Text {
            name: "PATH",
            form: "a resource such as default/disk/NAME, each part of letters, digits, '.', '_' and '-'",
        },
        Scope::After(&[Use {
            commands: &[Enroll], group: ADDS,
            help: "Where the broker keeps it (repository/type/tag), if not where kbs.resource of the image's \
                   configuration says; inside the same repository and type",
        }]);

    RECOVERY_KEY: "recovery-key", None, Value::None, Scope::After(&[Use {
        commands: &[Enroll], group: ADDS,
        help: "A new recovery key in systemd's form: shown once, as a QR code, too",
    }]);

    WIPE_SLOT: "wipe-slot", None,
        Value::Text {
            name: "SLOTS",
            form: "keyslot numbers, all, empty, password, recovery, tpm2 or kbs, joined by commas",
        },
        Scope::After(&[Use {
            commands: &[Enroll], group: WIPES,
            help: "Keyslots: numbers, all, empty, password, recovery, tpm2, kbs, joined by commas; never the last \
                   one that was seen to open",
        }]);

    TOKEN_ID: "token-id", None,
        Value::Text { name: "NUMBER", form: "the number of a token" },
        Scope::After(&[Use {
            commands: &[Bind], group: OPTIONS,
            help: "This token; otherwise the first that the TPM opens",
        }]);

    TPM2_DEVICE: "tpm2-device", None,
        Value::Text {
            name: "DEVICE",
            form: "auto, a device such as /dev/tpmrm0, or swtpm:host=HOST,port=PORT",
        },
        Scope::After(&[
            Use { commands: &[Enroll], group: OTHERS, help: TPM2_DEVICE_HELP },
            Use { commands: &[Unlock, Bind, Attest], group: OPTIONS, help: TPM2_DEVICE_HELP },
        ]);

    JSON: "json", None, Value::None, Scope::Anywhere("Machine-readable output");

    CONFIG: "config", None, FILE,
        Scope::Anywhere("Another configuration than /etc/cvm-unlock/config.json");

    ROOT: "root", None, Value::Path("DIR"),
        Scope::Anywhere("Take DIR for / (for tests: sysfs, devices, EFI variables, /run, /etc)");

    HELP: "help", Some('h'), Value::None,
        Scope::Anywhere("Help; `cvm-unlock COMMAND --help` tells more");

    VERSION: "version", Some('V'), Value::None, Scope::Alone("Version");
}

const TPM2_DEVICE_HELP: &str = "auto (default), /dev/tpm0, /dev/tpmrm0, or swtpm:host=HOST,port=PORT";

/// The option with that long name.
pub(super) fn long(name: &str) -> Option<&'static Opt> {
    ALL.iter().copied().find(|option| option.name == name)
}

/// The option with that letter.
pub(super) fn short(letter: char) -> Option<&'static Opt> {
    ALL.iter().copied().find(|option| option.short == Some(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_options_have_the_same_name() {
        for option in ALL {
            assert!(std::ptr::eq(long(option.name).unwrap(), *option), "{}", option.name);
            assert!(option.short.is_none_or(|letter| std::ptr::eq(short(letter).unwrap(), *option)));
        }
    }
}
