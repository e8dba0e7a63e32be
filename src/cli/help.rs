//! The help texts: each says what the command is for before it lists options.

use super::Command;

/// What help was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Topic {
    Overview,
    Unlock,
    Enroll,
    Bind,
    Inspect,
    Attest,
    Status,
    Config,
    Fail,
    NetworkDown,
    NetworkMissing,
}

impl Topic {
    /// The topic of a command.
    pub(super) const fn of(command: &Command) -> Self {
        match command {
            Command::Unlock(_) => Self::Unlock,
            Command::Enroll(_) => Self::Enroll,
            Command::Bind(_) => Self::Bind,
            Command::Inspect(_) => Self::Inspect,
            Command::Attest(_) => Self::Attest,
            Command::Status => Self::Status,
            Command::Config(_) => Self::Config,
            Command::Fail => Self::Fail,
            Command::NetworkDown => Self::NetworkDown,
            Command::NetworkMissing => Self::NetworkMissing,
            Command::Help(topic) => *topic,
            Command::Version => Self::Overview,
        }
    }

    /// The text.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Overview => OVERVIEW,
            Self::Unlock => UNLOCK,
            Self::Enroll => ENROLL,
            Self::Bind => BIND,
            Self::Inspect => INSPECT,
            Self::Attest => ATTEST,
            Self::Status => STATUS,
            Self::Config => CONFIG,
            Self::Fail => FAIL,
            Self::NetworkDown => NETWORK_DOWN,
            Self::NetworkMissing => NETWORK_MISSING,
        }
    }
}

const OVERVIEW: &str = "\
Unlocks the disk of a confidential VM, early in boot, unattended, on a host that nobody trusts.

Usage: cvm-unlock COMMAND [OPTIONS]

Commands:
  enroll   Make a new key for a volume, sealed to the TPM or for a key broker: once, when an image
           or a VM is made
  unlock   Find, prove, fence and map the root volume: at every boot, by the initramfs
  bind     Give a token of systemd-cryptenroll's its binding and the owner's signature
  inspect  Show what a volume's header says, and whether it is accepted
  status   Show what this boot's unlock came to
  attest   Show what this machine proves of itself, and try it on the key brokers
  config   Check or show the configuration where an image is built
  fail     End a boot that must not go on (used by the initramfs only)
  network-down, network-missing
           Take the network down again; say whether it is missing (used by the initramfs only)

Options of every command:
  --json         Machine-readable output
  --config=FILE  Another configuration than /etc/cvm-unlock/config.json
  --root=DIR     Take DIR for / (for tests: sysfs, devices, EFI variables, /run, /etc)
  -h, --help     Help; `cvm-unlock COMMAND --help` tells more
  -V, --version  Version

A first enrolment, on the machine that builds the image, against the VM's emulated TPM:
  cvm-unlock enroll disk.img --unlock-key-file=key --sign-key=owner.key \\
      --tpm2-device=swtpm:host=localhost,port=2321 --tpm2-pcrs=4:sha256=HEX+11:sha256=HEX

Exit codes: 0 done, 64 usage, 65 hostile or damaged data, 69 something is not there, 70 a defect,
71 the system refused, 77 the TPM or the policy refused, 78 configuration. Every failure also has a
stable name, printed in [brackets] and found in --json output and the report.
";

const UNLOCK: &str = "\
Find, prove, fence and map the root volume. The initramfs runs it without arguments at every boot.

Usage: cvm-unlock unlock [OPTIONS]
       cvm-unlock unlock --dry-run [DEVICE|IMAGE] [OPTIONS]

The root volume is the LUKS2 partition with the root type GUID of this architecture, on the disk
whose ESP the firmware booted from, or on any disk where the firmware did not say. Names, labels
and order decide nothing. Its key is unsealed by the TPM; PCR 15 is extended before anything is
mapped, so that the key cannot be unsealed again in this boot. Where the TPM gives no key and the
configuration has kbs, a key broker is asked for one: only then is there a network. On any failure
nothing is asked and nothing is mapped; the initramfs powers the machine off.

Options:
  --dry-run             Go all the way up to the proof, but extend, map and write nothing.
                        With DEVICE or IMAGE: that volume (a LUKS2 volume, or a disk with one).
                        Says for each token that does not open why not: which PCR differs, from what
                        to what. In a fenced boot, judges by the PCR values that its unlock recorded.
                        No key broker is asked; `attest --connect` does that
  --tpm2-device=DEVICE  auto (default), /dev/tpm0, /dev/tpmrm0, or swtpm:host=HOST,port=PORT
  --tpm2-signature=FILE Signed PCR policies (tpm2-pcr-signature.json) of a dry run. By default they
                        are where systemd-stub and systemd leave them: /.extra and systemd's
                        directories below /etc, /run, /usr/local/lib and /usr/lib
  --json                Print the report
  --config=FILE         Another configuration (for dry runs)
";

const ENROLL: &str = "\
Seal a new key for a LUKS2 volume to the TPM, make one for a key broker, add a recovery key, and wipe
old keyslots.

Usage: cvm-unlock enroll DEVICE|IMAGE --unlock-key-file=FILE --tpm2-pcrs=PCRS [OPTIONS]
       cvm-unlock enroll DEVICE|IMAGE --unlock-tpm2 --recovery-key [OPTIONS]
       cvm-unlock enroll DEVICE|IMAGE --unlock-key-file=FILE --kbs=FILE [OPTIONS]

DEVICE or IMAGE is a LUKS2 volume, or a disk (a whole disk image, too) with one in its root
partition. Nothing needs to be mapped, mounted or booted: with the PCR values of an earlier boot,
or predicted ones, enrolment works on the machine that builds the image.

What opens the volume now:
  --unlock-key-file=FILE  Passphrase of an existing keyslot: the whole file, newline included
  --unlock-tpm2           The TPM, by a token that the volume has; PCR 15 must be zero

What is added:
  --tpm2-pcrs=PCRS        PCRs as systemd-cryptenroll takes them: 4+7, or with explicit values
                          7:sha256=HEX+11:sha256=HEX; `uki` is 4+7+11+12+13. PCRs without a value
                          are read from the TPM. PCR 15 = zero is always added: it makes the key
                          single-use per boot
  --tpm2-pcr-bank=BANK    sha256 (default), sha384, sha512 or sha1
  --tpm2-public-key=FILE  RSA key (PEM) whose signatures approve PCR values, as systemd-measure makes
                          them: a new UKI then needs no new enrolment. PCR 15 = zero stays by value
  --tpm2-public-key-pcrs=PCRS  PCRs that it signs for: 11 by default
  --tpm2-signature=FILE   Its signatures, for the trial (and for --unlock-tpm2)
  --tpm2-seal-key-handle=HANDLE  Another persistent parent key than 0x81000001
  --private-db            Only the owner's keys are in the Secure Boot db. Without it, PCR 11 is
                          refused unless PCR 4 is there: any system can extend 11 as this image does
  --sign-key=FILE         The owner's private key (PEM, PKCS#8): signs the keyslot, so that an image whose
                          configuration names the public half can tell whose volume it is
  --kbs=FILE              A new key for a key broker, which releases it when the TPM does not unseal. FILE,
                          which must not exist yet, becomes the key document: upload it to the broker
                          (docs/trustee), then remove it. Needs no TPM
  --kbs-path=PATH         Where the broker keeps it (repository/type/tag), if not where kbs.resource of
                          the image's configuration says; inside the same repository and type
  --recovery-key          A new recovery key in systemd's form: shown once, as a QR code, too

What is taken away, after the new keys have proved themselves:
  --wipe-slot=SLOTS       Keyslots: numbers, all, empty, password, recovery, tpm2, kbs, joined by
                          commas; never the last one that was seen to open

Other options:
  --tpm2-device=DEVICE    auto (default), /dev/tpm0, /dev/tpmrm0, or swtpm:host=HOST,port=PORT
  --json                  Print what was done as JSON

The volume changes in one step: its header names the new keyslots only when they, their tokens
and their bindings have been tried. An interrupted enrolment leaves the volume as it was; a key
document that it left behind is of no use.
";

const BIND: &str = "\
Give a token that systemd-cryptenroll made its binding and the owner's signature.

Usage: cvm-unlock bind DEVICE|IMAGE [OPTIONS]

Binding needs the sealed secret, so the TPM has to open the token now, with PCR 15 still zero: with
the VM's emulated TPM on the machine that builds the image, or before anything was unlocked. Where
that cannot be, enrol anew. Keyslots and the sealed object stay as they are; one write of the header.

Options:
  --sign-key=FILE         The owner's private key (PEM, PKCS#8); without it, the token is only bound
  --tpm2-signature=FILE   Signatures for a token whose policy is signed
  --token-id=NUMBER       This token; otherwise the first that the TPM opens
  --tpm2-device=DEVICE    auto (default), /dev/tpm0, /dev/tpmrm0, or swtpm:host=HOST,port=PORT
  --json                  Print what was done as JSON
";

const INSPECT: &str = "\
Show what a volume's header says, and whether it is accepted. Reads only; needs no TPM.

Usage: cvm-unlock inspect DEVICE|IMAGE [OPTIONS]

Header, keyslots, tokens with their kind, PCRs, binding and signer. A header that a boot would refuse
is refused here, too: by its name and the place in the metadata, with the exit code of an unlock.

Options:
  --unlock-key-file=FILE  Passphrase of a keyslot: adds the volume key's digest, as a configuration
                          pins it under authentic.volume_keys
  --json                  Print it as JSON
";

const ATTEST: &str = "\
Show what this machine proves of itself to a key broker. A rehearsal: no key is fetched.

Usage: cvm-unlock attest [--json] [--tpm2-device=DEVICE]
       cvm-unlock attest --show-ak [--json]    The TPM's attestation key, to be registered
       cvm-unlock attest --connect [--json]    Have the configured key brokers judge the evidence

The evidence is a quote by the TPM over PCRs 0 to 23 of the SHA-256 bank, in the form in which Trustee
takes it. The attestation key is derived from a fixed template in the endorsement hierarchy: the same at
every boot and after TPM2_Clear. A server has to know it, since anybody has a TPM: see docs/trustee.
Without --connect, the quote is over a random number of our own.

Values in a running system are not those of the initramfs: PCR 11 has moved on, PCR 15 is fenced.
Inside an initramfs, --connect asks for the network first.

Options:
  --show-ak             Print the attestation key only
  --connect             Handshake with kbs.servers of the configuration, up to the attestation
  --tpm2-device=DEVICE  auto (default), /dev/tpm0, /dev/tpmrm0, or swtpm:host=HOST,port=PORT
  --config=FILE         Another configuration
  --json                Print it as JSON
";

const STATUS: &str = "\
Show what this boot's unlock came to, from /run/cvm-unlock/report.json.

Usage: cvm-unlock status [--json]

Which volume, token and keyslot; what was extended into PCR 15; warnings; the time of each stage.
";

const CONFIG: &str = "\
Check or show the configuration where an image is built.

Usage: cvm-unlock config check       Say whether it is valid; unknown members are errors
       cvm-unlock config show        Print it with all defaults filled in
       cvm-unlock config mount-unit  Print sysroot.mount as the dracut module installs it
       cvm-unlock config needs       Print what the initramfs needs, one word a line: network

Options:
  --config=FILE  Another file than /etc/cvm-unlock/config.json

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
           \"not_before\": 0}}                   the image's time, seconds since 1970: no clock is earlier
";

const FAIL: &str = "\
End a boot that must not go on: fence PCR 15, say so once, power off (or what `on_failure` says).

Usage: cvm-unlock fail

Run by cvm-unlock-fail.service inside the initramfs; refuses to run anywhere else.
";

const NETWORK_DOWN: &str = "\
Take the network down that was up for a key broker: no address, no route, every interface down.

Usage: cvm-unlock network-down

Run by cvm-unlock-network.service inside the initramfs, when systemd-networkd or NetworkManager has
stopped; refuses to run anywhere else.
";

const NETWORK_MISSING: &str = "\
Say whether the network is wanted and no key broker can be reached: 0 if so, 1 if not.

Usage: cvm-unlock network-missing

Run by cvm-unlock-network-manager.service inside the initramfs, before each attempt; refuses to run
anywhere else.
";
