//! Attacks: the LUKS2 headers of the Trail of Bits findings, with checksums that hold. V1 has the null cipher in the keyslot
//! that the token names, V2 in the data segment. The same disks are given to us and to the distribution's
//! systemd-cryptsetup; then both get the volume as its owner made it, and map it alike.

use anyhow::{Result, ensure};

use crate::boot::Boot;
use crate::disk::Root;
use crate::enrolled::Enroller;
use crate::forged::Forged;
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::outcome::Outcome;
use crate::uki::{COMMAND_LINE, Uki};
use crate::volume::Userland;

/// Three boots of each unlocker.
///
/// # Errors
/// When an attack succeeds against us, or a control does not open, or systemd fares otherwise than we say.
pub fn run(lab: &Lab) -> Result<()> {
    let ours = lab.product_uki()?;
    for variant in [Variant::Keyslot, Variant::Segment] {
        let outcome = boot(lab, &ours, "null-cipher", Some(variant))?;
        outcome
            .powered_off_without_asking()?
            .refused_with("luks-cipher-null")?
            .unsealed_nothing()?
            .fenced_after_failure()?;
    }
    let opened = boot(lab, &ours, "null-cipher", None)?;
    opened.reached_real_root()?;

    let theirs = lab.uki(Unlocker::Systemd, false, COMMAND_LINE)?;
    let outcome = boot(lab, &theirs, "null-cipher-systemd", Some(Variant::Keyslot))?;
    // The rogue root runs, from a mapping whose key the attacker chose.
    outcome.reached_real_root()?;
    let outcome = boot(lab, &theirs, "null-cipher-systemd", Some(Variant::Segment))?;
    outcome.reached_a_root_in_clear()?;
    let control = boot(lab, &theirs, "null-cipher-systemd", None)?;
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

fn boot(lab: &Lab, uki: &Uki, name: &str, variant: Option<Variant>) -> Result<Outcome> {
    let name = match variant {
        None => format!("{name}-control"),
        Some(Variant::Keyslot) => format!("{name}-v1"),
        Some(Variant::Segment) => format!("{name}-v2"),
    };
    let enrolled = lab.enrolled_by(Enroller::CvmUnlock, uki, Userland::Script)?;
    let files = lab.cache.run_dir(&format!("forged-{name}"))?;
    let root = match variant {
        None => Root::Encrypted(enrolled.clone()),
        Some(Variant::Keyslot) => Root::Forged(Forged::null_keyslot(&lab.tools, &enrolled, &files)?),
        Some(Variant::Segment) => {
            Root::Forged(Forged::null_segment(&enrolled, &lab.filesystem(Userland::Script)?, &files)?)
        }
    };
    let disk = lab.disk(&name, Some(uki), &root)?;
    let outcome = Boot::new(lab, &name)?.disk(&disk).tpm(enrolled.tpm()).run()?;
    disk.discard()?;
    std::fs::remove_dir_all(files)?;
    Ok(outcome)
}

/// A live table without what differs from boot to boot: the disk's major number, which the kernel gives out as drivers come,
/// and the name of the key in its keyring.
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
