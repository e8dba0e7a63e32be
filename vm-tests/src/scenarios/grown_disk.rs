//! An owner's usual first steps: the cloud enlarges the disk, growpart grows the root partition to the end of
//! it, and cryptsetup adds a recovery key with 2 GiB of Argon2. The root has to open again.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::artefacts::filesystem::Userland;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::{Layout, Root};
use crate::progress::say;

/// Two boots of one disk: the first grows the partition and adds the key, the second opens the result.
///
/// # Errors
/// When a boot does not reach the root, or the disk does not look as it should.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::GrowingScript)?;
    let measurement = enrolled.volume.measurement()?;
    let layout = Layout { enlarged: 256, ..Layout::default() };
    let disk = lab.disk_like(layout, Some(&uki), &Root::Encrypted(enrolled.clone()))?;

    let growing = lab.part("growing");
    let boot = growing.boot()?.disk(&disk).tpm(enrolled.tpm()).written_through();
    let boot = boot.memory(ARGON2_MEMORY).patience(ARGON2).file("booted", GROW);
    let boot = boot.file("passphrase", fs::read(enrolled.volume.passphrase())?).file("recovery", RECOVERY);
    let before = boot.run()?;
    before.reached_real_root()?.fenced_with(&measurement)?.explain(has_grown(&before))?;

    let boot = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).file("booted", LOOK);
    let after = boot.run()?;
    after.reached_real_root()?.fenced_with(&measurement)?.explain(is_still_grown(&before, &after))?;
    disk.discard()
}

/// The kernel saw the partition grow while the root was mounted from it.
fn has_grown(outcome: &Outcome) -> Result<()> {
    let evidence = outcome.evidence()?;
    ensure!(evidence.text("booted.rc")?.trim() == "0", "The script failed: {}", evidence.text("booted.log")?);
    let (before, after) = (sectors(outcome, "size-before")?, sectors(outcome, "size")?);
    ensure!(before.is_multiple_of(LUKS_SECTOR), "The partition had {before} sectors before");
    ensure!(after > before, "The partition had {before} sectors, and has {after}");
    Ok(())
}

/// The kernel's size of the partition, the kernel's table of the mapping, and cryptsetup's list of keyslots.
fn is_still_grown(before: &Outcome, after: &Outcome) -> Result<()> {
    let (size, grown) = (sectors(after, "size")?, sectors(before, "size")?);
    ensure!(size == grown, "The partition grew to {grown} sectors, and has {size}");
    let evidence = after.evidence()?;
    let table = evidence.text("dm-table")?;
    say(&format!(
        "a partition of {size} sectors, {} more than whole LUKS sectors: {table}",
        size % LUKS_SECTOR
    ));
    ends_at_the_last_whole_sector(size, &table)?;
    has_the_costly_keyslot(&evidence.text("luks-dump")?)
}

/// Sectors of 512 bytes, from `/sys/class/block/vda2/size`.
fn sectors(outcome: &Outcome, piece: &str) -> Result<u64> {
    let text = outcome.evidence()?.text(piece)?;
    text.trim().parse().with_context(|| format!("`{piece}` is no number: {text}"))
}

/// The partition does not end at a LUKS sector; the mapping does, at the last one that fits.
fn ends_at_the_last_whole_sector(partition: u64, table: &str) -> Result<()> {
    ensure!(!partition.is_multiple_of(LUKS_SECTOR), "The partition has whole LUKS sectors: {partition}");
    let words: Vec<_> = table.split_whitespace().collect();
    let [_, "0", length, "crypt", _, _, _, _, offset, _, "sector_size:4096", ..] = words.as_slice() else {
        bail!("The device-mapper table is {table}");
    };
    let (length, offset): (u64, u64) = (length.parse()?, offset.parse()?);
    let end = offset.saturating_add(length);
    let last = partition - partition % LUKS_SECTOR;
    ensure!(
        length.is_multiple_of(LUKS_SECTOR) && end == last,
        "The mapping ends at {end}, not at {last}: {table}"
    );
    Ok(())
}

/// `cryptsetup luksDump` lists a keyslot of this function and cost.
fn has_the_costly_keyslot(dump: &str) -> Result<()> {
    let keyslots = dump.split("\nKeyslots:\n").nth(1).unwrap_or_default();
    let keyslots = keyslots.split("\nTokens:\n").next().unwrap_or_default();
    let value = |line: &str, name: &str| -> Option<String> {
        Some(line.trim().strip_prefix(name)?.strip_prefix(':')?.trim().to_owned())
    };
    let mut function = None;
    for line in keyslots.lines() {
        function = value(line, "PBKDF").or(function);
        if value(line, "Memory").as_deref() == Some("2097152") && function.as_deref() == Some("argon2id") {
            return Ok(());
        }
    }
    bail!("No keyslot of argon2id with 2097152 KiB: {dump}")
}

/// A LUKS sector of 4096 bytes in sectors of 512.
const LUKS_SECTOR: u64 = 8;
/// MiB. cryptsetup uses half of the memory at most.
const ARGON2_MEMORY: u32 = 5120;
/// Under emulation, four passes over 2 GiB take minutes.
const ARGON2: Duration = Duration::from_secs(480);
const RECOVERY: &str = "the owner's recovery key";

/// Runs in the real root. growpart leaves 33 sectors for the backup of the partition table, so on a disk of
/// whole MiB the partition ends in the middle of a LUKS sector.
const GROW: &str = r#"set -e
cat /sys/class/block/vda2/size > size-before
growpart /dev/vda 2
cat /sys/class/block/vda2/size > size
cryptsetup luksAddKey --batch-mode --pbkdf argon2id --pbkdf-memory 2097152 --pbkdf-force-iterations 4 \
    --pbkdf-parallel 1 --key-file ../in/passphrase /dev/vda2 ../in/recovery
cryptsetup luksDump /dev/vda2 > luks-dump
"#;

/// Runs in the real root.
const LOOK: &str = "cat /sys/class/block/vda2/size > size
cryptsetup luksDump /dev/vda2 > luks-dump
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_ends_with_the_last_whole_luks_sector_of_an_odd_partition_only() {
        let table = |length: u64| {
            format!(
                "root: 0 {length} crypt aes-xts-plain64 :64:logon:cryptsetup:x 0 254:2 32768 1 sector_size:4096"
            )
        };
        assert!(ends_at_the_last_whole_sector(1_048_583, &table(1_015_808)).is_ok());
        assert!(ends_at_the_last_whole_sector(1_048_583, &table(1_015_815)).is_err(), "not a whole sector");
        assert!(ends_at_the_last_whole_sector(1_048_583, &table(1_015_800)).is_err(), "one more fits");
        assert!(ends_at_the_last_whole_sector(1_048_576, &table(1_015_808)).is_err(), "an even partition");
        let other = table(1_015_808).replace("4096", "512");
        assert!(ends_at_the_last_whole_sector(1_048_583, &other).is_err(), "sectors of another size");
    }

    #[test]
    fn the_memory_counts_with_its_own_keyslots_function() {
        let dump = |function: &str, memory: &str| {
            format!(
                "LUKS header information\nKeyslots:\n  0: luks2\n\tPBKDF:      pbkdf2\n  1: luks2\n\
                 \tPBKDF:      {function}\n\tTime cost:  4\n\tMemory:     {memory}\nTokens:\nDigests:\n"
            )
        };
        assert!(has_the_costly_keyslot(&dump("argon2id", "2097152")).is_ok());
        assert!(has_the_costly_keyslot(&dump("argon2i", "2097152")).is_err());
        assert!(has_the_costly_keyslot(&dump("argon2id", "1048576")).is_err());
        assert!(has_the_costly_keyslot("").is_err());
    }
}
