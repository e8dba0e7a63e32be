//! Attacks: the LUKS2 headers of the Trail of Bits findings, with valid checksums. V1 has the null cipher in
//! the keyslot that the token names, V2 in the data segment. We and the distribution's systemd-cryptsetup get
//! the same disks; then both get the owner's volume, and map it alike.

use anyhow::{Result, ensure};

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::artefacts::forged::Forged;
use crate::artefacts::recipe::Unlocker;
use crate::artefacts::uki::Uki;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// Three boots of each unlocker.
///
/// # Errors
/// When an attack succeeds against us or fails against systemd, or a control does not open.
pub fn run(lab: &Lab) -> Result<()> {
    let ours = lab.image().uki()?;
    for variant in [Variant::Keyslot, Variant::Segment] {
        let outcome = boot(lab, &ours, Some(variant))?;
        outcome
            .powered_off_without_asking()?
            .refused_with("luks-cipher-null")?
            .unsealed_nothing()?
            .fenced_after_failure()?;
    }
    let opened = boot(lab, &ours, None)?;
    opened.reached_real_root()?;

    let theirs = lab.image().unlocker(Unlocker::Systemd).uki()?;
    let systemd = lab.part("systemd");
    let outcome = boot(&systemd, &theirs, Some(Variant::Keyslot))?;
    // The rogue root runs, from a mapping whose key the attacker chose.
    outcome.reached_real_root()?;
    let outcome = boot(&systemd, &theirs, Some(Variant::Segment))?;
    outcome.reached_a_root_in_clear()?;
    let control = boot(&systemd, &theirs, None)?;
    control.reached_real_root()?;

    let (ours, theirs) = (opened.evidence()?.text("dm-table")?, control.evidence()?.text("dm-table")?);
    ensure!(mapping(&ours) == mapping(&theirs), "We map `{ours}`, systemd `{theirs}`");
    Ok(())
}

#[derive(Clone, Copy)]
enum Variant {
    Keyslot,
    Segment,
}

fn boot(lab: &Lab, uki: &Uki, variant: Option<Variant>) -> Result<Outcome> {
    let lab = lab.part(match variant {
        None => "control",
        Some(Variant::Keyslot) => "v1",
        Some(Variant::Segment) => "v2",
    });
    let enrolled = lab.enrolled_by(Enroller::CvmUnlock, uki, Userland::Script)?;
    let files = lab.run_dir("forged")?;
    let root = match variant {
        None => Root::Encrypted(enrolled.clone()),
        Some(Variant::Keyslot) => Root::Forged(Forged::null_keyslot(&enrolled, &files)?),
        Some(Variant::Segment) => {
            Root::Forged(Forged::null_segment(&enrolled, &lab.filesystem(Userland::Script)?, &files)?)
        }
    };
    let disk = lab.disk(Some(uki), &root)?;
    let outcome = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).run()?;
    disk.discard()?;
    std::fs::remove_dir_all(files)?;
    Ok(outcome)
}

/// A live table without what differs from boot to boot: the disk's major number, which depends on the order
/// of drivers, and the name of the key in the kernel's keyring.
fn mapping(table: &str) -> Vec<&str> {
    let words = table.split_whitespace();
    words
        .map(|word| match word.split_once(':') {
            Some((major, minor)) if major.parse::<u32>().is_ok() => minor,
            _ => word.split(":logon:").next().unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_varies_from_boot_to_boot_is_left_out() {
        // Of systemd 257 and of cvm-unlock, on the same volume.
        let theirs = "root: 0 819200 crypt aes-xts-plain64 :64:logon:cryptsetup:a11205af-d0 0 254:2 32768 1 sector_size:4096";
        let ours = theirs.replace("254:", "253:").replace("a11205af", "c0ffee00");
        assert_eq!(mapping(&ours), mapping(theirs));
        for (from, to) in [
            ("aes-xts-plain64", "cipher_null-ecb"),
            (" 0 254:2", " 8 254:2"),
            ("254:2", "254:3"),
            (":64:", ":32:"),
            ("32768", "0"),
            ("1 sector_size:4096", "2 sector_size:4096 allow_discards"),
            ("819200", "819192"),
        ] {
            assert_ne!(mapping(&theirs.replace(from, to)), mapping(theirs), "{to}");
        }
    }
}
