//! What each command is for, in prose. Options are not described here: they have their own table.

use super::command::Command;

/// The page of a command.
#[derive(Debug)]
pub(super) struct Page {
    /// One sentence; the list of all commands has it, too.
    pub(super) summary: &'static str,
    /// The forms of the command, without the program's name.
    pub(super) usage: &'static [&'static str],
    /// Paragraphs before the options.
    pub(super) about: &'static str,
    /// Paragraphs after the options.
    pub(super) notes: &'static str,
    pub(super) examples: &'static [Example],
}

/// A command line that makes sense as it stands, but for `HEX`.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) purpose: &'static str,
    /// Without the program's name; a newline where the help breaks the line.
    pub(super) line: &'static str,
}

/// The page of `command`.
pub(super) const fn page(command: Command) -> &'static Page {
    match command {
        Command::Enroll => &ENROLL,
        Command::Unlock => &UNLOCK,
        Command::Bind => &BIND,
        Command::Inspect => &INSPECT,
        Command::Status => &STATUS,
        Command::Attest => &ATTEST,
        Command::Config => &CONFIG,
        Command::Fail => &FAIL,
        Command::NetworkDown => &NETWORK_DOWN,
        Command::NetworkMissing => &NETWORK_MISSING,
        Command::Help => &OVERVIEW,
    }
}

/// Of the program as a whole; its summary is that of `help`.
const OVERVIEW: Page = Page {
    summary: "Show this text, or what a command does",
    usage: &["COMMAND [OPTIONS]", "help [COMMAND]"],
    about: "\
Unlocks the disk of a confidential VM, early in boot, unattended, on a host that nobody trusts.",
    notes: "\
Exit codes: 0 done, 64 usage, 65 hostile or damaged data, 69 something is not there, 70 a defect,
71 the system refused, 77 the TPM or the policy refused, 78 configuration. Every failure also has a
stable name, printed in [brackets] and found in --json output and the report.",
    examples: &[
        Example {
            purpose: "A first enrolment, on the machine that builds the image, against the VM's emulated TPM",
            line: "enroll disk.img --unlock-key-file=key --sign-key=owner.key\n\
                   --tpm2-device=swtpm:host=localhost,port=2321 --tpm2-pcrs=4:sha256=HEX+11:sha256=HEX",
        },
        Example { purpose: "Whether this machine would unlock its root now", line: "unlock --dry-run" },
    ],
};

const ENROLL: Page = Page {
    summary: "Make a new key for a volume, sealed to the TPM or for a key broker: once, when an image or a VM is made",
    usage: &[
        "enroll DEVICE|IMAGE --unlock-key-file=FILE --tpm2-pcrs=PCRS [OPTIONS]",
        "enroll DEVICE|IMAGE --unlock-tpm2 --recovery-key [OPTIONS]",
        "enroll DEVICE|IMAGE --unlock-key-file=FILE --kbs=FILE [OPTIONS]",
    ],
    about: "\
Adds a recovery key and wipes old keyslots, too.

DEVICE or IMAGE is a LUKS2 volume, or a disk (a whole disk image, too) with one in its root
partition. Nothing needs to be mapped, mounted or booted: with the PCR values of an earlier boot,
or predicted ones, enrolment works on the machine that builds the image.",
    notes: "\
The volume changes in one step: its header names the new keyslots only when they, their tokens
and their bindings have been tried. An interrupted enrolment leaves the volume as it was; a key
document that it left behind is of no use.",
    examples: &[
        Example {
            purpose: "A key for the image of a UKI, signed by the owner, with the PCRs that the TPM has now",
            line: "enroll disk.img --unlock-key-file=key --sign-key=owner.key --tpm2-pcrs=uki",
        },
        Example {
            purpose: "A key for a key broker; no TPM is needed",
            line: "enroll disk.img --unlock-key-file=key --sign-key=owner.key --kbs=document.json",
        },
        Example {
            purpose: "A recovery key in the place of the passphrase",
            line: "enroll disk.img --unlock-key-file=key --recovery-key --wipe-slot=password",
        },
    ],
};

const UNLOCK: Page = Page {
    summary: "Find, prove, fence and map the root volume: at every boot, by the initramfs",
    usage: &["unlock [OPTIONS]", "unlock --dry-run [DEVICE|IMAGE] [OPTIONS]"],
    about: "\
The initramfs runs it without arguments.

The root volume is the LUKS2 partition with the root type GUID of this architecture, on the disk
whose ESP the firmware booted from, or on any disk where the firmware did not say. Names, labels
and order decide nothing. Its key is unsealed by the TPM; PCR 15 is extended before anything is
mapped, so that the key cannot be unsealed again in this boot. Where the TPM gives no key and the
configuration has kbs, a key broker is asked for one: only then is there a network. On any failure
nothing is asked and nothing is mapped; the initramfs powers the machine off.",
    notes: "",
    examples: &[
        Example { purpose: "Whether this machine would unlock its root now", line: "unlock --dry-run" },
        Example {
            purpose: "Whether an image would open with an emulated TPM, as JSON",
            line: "unlock --dry-run disk.img --tpm2-device=swtpm:host=localhost,port=2321 --json",
        },
    ],
};

const BIND: Page = Page {
    summary: "Give a token of systemd-cryptenroll's its binding and the owner's signature",
    usage: &["bind DEVICE|IMAGE [OPTIONS]"],
    about: "\
Binding needs the sealed secret, so the TPM has to open the token now, with PCR 15 still zero: with
the VM's emulated TPM on the machine that builds the image, or before anything was unlocked. Where
that cannot be, enrol anew. Keyslots and the sealed object stay as they are; one write of the header.",
    notes: "",
    examples: &[Example {
        purpose: "The first token that the TPM opens, signed",
        line: "bind disk.img --sign-key=owner.key --tpm2-device=swtpm:host=localhost,port=2321",
    }],
};

const INSPECT: Page = Page {
    summary: "Show what a volume's header says, and whether it is accepted",
    usage: &["inspect DEVICE|IMAGE [OPTIONS]"],
    about: "\
Reads only; needs no TPM. Shows the header, keyslots, tokens with their kind, PCRs, binding and
signer. A header that a boot would refuse is refused here, too: by its name and the place in the
metadata, with the exit code of an unlock.",
    notes: "",
    examples: &[Example {
        purpose: "With the volume key's digest",
        line: "inspect disk.img --unlock-key-file=key",
    }],
};

const STATUS: Page = Page {
    summary: "Show what this boot's unlock came to",
    usage: &["status [OPTIONS]"],
    about: "\
Which volume, token and keyslot; what was extended into PCR 15; warnings; the time of each stage.
Reads /run/cvm-unlock/report.json.",
    notes: "",
    examples: &[Example { purpose: "As JSON, for scripts", line: "status --json" }],
};

const ATTEST: Page = Page {
    summary: "Show what this machine proves of itself, and try it on the key brokers",
    usage: &["attest [OPTIONS]", "attest --show-ak [OPTIONS]", "attest --connect [OPTIONS]"],
    about: "\
A rehearsal: no key is fetched. With --show-ak, prints the TPM's attestation key, to be registered;
with --connect, has the configured key brokers judge the evidence.

The evidence is a quote by the TPM over PCRs 0 to 23 of the SHA-256 bank, in the form in which Trustee
takes it. The attestation key is derived from a fixed template in the endorsement hierarchy: the same at
every boot and after TPM2_Clear. A server has to know it, since anybody has a TPM: see docs/trustee.
Without --connect, the quote is over a random number of our own.

Values in a running system are not those of the initramfs: PCR 11 has moved on, PCR 15 is fenced.
Inside an initramfs, --connect asks for the network first.",
    notes: "",
    examples: &[
        Example { purpose: "The key to register at the server", line: "attest --show-ak" },
        Example {
            purpose: "Whether the key brokers of a configuration take the evidence",
            line: "attest --connect --config=config.json",
        },
    ],
};

const CONFIG: Page = Page {
    summary: "Check or show the configuration where an image is built",
    usage: &["config ACTION [OPTIONS]"],
    about: "",
    notes: "\
Members and defaults:
  {\"tpm\": \"required\",                 or none: key brokers alone decide
   \"policy\": {\"require_authentic\": true, \"require_binding\": true, \"require_fence\": true,
              \"allow_unbound\": false},
   \"authentic\": {\"owner_keys\": [],       public keys (PEM) that sign volumes: enroll --sign-key
                 \"volume_keys\": [],      or volumes by the digest that enroll prints
                 \"key_broker\": true},    or the key broker that releases the key
   \"device_timeout_seconds\": 60,
   \"on_failure\": \"poweroff\",            poweroff, reboot or halt
   \"root\": {\"fstype\": \"auto\", \"options\": \"rw\"},
   \"allow_luks_flags\": []}              allow-discards, same-cpu-crypt, submit-from-crypt-cpus,
                                        no-read-workqueue, no-write-workqueue

Key brokers, none by default (docs/trustee):
  {\"kbs\": {\"servers\": [{\"url\": \"https://HOST:PORT\",   asked in this order; each has one of
                        \"ca\": \"PEM\",              authorities, the only ones that count, or
                        \"spki\": \"HEX\"}],          SHA-256 of the server's own public key
           \"resource\": \"default/disk/{uuid}\",  repository/type/tag; {uuid}: the volume's LUKS UUID
           \"evidence\": \"tpm\",
           \"connect_timeout_seconds\": 5,
           \"deadline_seconds\": 60,              all servers and attempts
           \"not_before\": 0}}                   the image's time, seconds since 1970: no clock is earlier",
    examples: &[Example { purpose: "Before an image is built", line: "config check --config=config.json" }],
};

const FAIL: Page = Page {
    summary: "End a boot that must not go on (used by the initramfs only)",
    usage: &["fail"],
    about: "\
Fences PCR 15, says so once, powers off (or what `on_failure` says). Run by cvm-unlock-fail.service
inside the initramfs; refuses to run anywhere else.",
    notes: "",
    examples: &[],
};

const NETWORK_DOWN: Page = Page {
    summary: "Take the network down that was up for a key broker (used by the initramfs only)",
    usage: &["network-down"],
    about: "\
Leaves no address, no route, and every interface down. Run by cvm-unlock-network.service inside the
initramfs, when systemd-networkd or NetworkManager has stopped; refuses to run anywhere else.",
    notes: "",
    examples: &[],
};

const NETWORK_MISSING: Page = Page {
    summary: "Say whether the network is wanted and no key broker can be reached (used by the initramfs only)",
    usage: &["network-missing"],
    about: "\
Ends with 0 if so, with 1 if not. Run by cvm-unlock-network-manager.service inside the initramfs,
before each attempt; refuses to run anywhere else.",
    notes: "",
    examples: &[],
};
