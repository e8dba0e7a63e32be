//! Attack: the host shows one header while it is read, and another one afterwards. Its server counts how
//! often the guest (kernel, udev, we and libcryptsetup together) reads each sector of the metadata, from the
//! kernel's first process to the mapping. Then it answers further reads with the other header.
//!
//! udev and we share the kernel's page cache, which is in the guest's memory. If its pages are gone when we
//! read, there are two reads, and we use the second alone.

use std::ops::Range;

use anyhow::{Result, ensure};

use crate::artefacts::filesystem::Userland;
use crate::artefacts::forged::{in_clear, keyslot_area};
use crate::forge::Field;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::machine::nbd::Nbd;
use crate::progress::say;

/// One boot.
///
/// # Errors
/// When something is read twice that should not be, or the lie has an effect.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().probed().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let header = std::fs::read(enrolled.header())?;
    // Everything before the data, with the null cipher in the segment and a label to know it by.
    let forged = in_clear(&header).field(Field::Label, FORGED.as_bytes()).volume();
    let server = Nbd::serve(disk.path(), lab.workbench.cache.socket("nbd"), (PARTITION, &forged))?;

    let boot = lab.boot()?.served(&server).tpm(enrolled.tpm());
    let outcome = boot.file("after", LOOK_AGAIN).run()?;
    outcome.reached_real_root()?;
    outcome.explain(read_once(&server, &header))?;
    outcome.explain(was_lied_to(&outcome, &server))?;
    disk.discard()
}

/// The header was read once, or once by udev and once by us; the keyslot's area, which only we read, once.
fn read_once(server: &Nbd, header: &[u8]) -> Result<()> {
    for (what, range, most) in [("header", 0..2 * COPY, 2), ("keyslot's area", keyslot_area(header)?, 1)] {
        let reads = server.reads(&on_disk(&range));
        let sectors = (range.end - range.start) / 512;
        ensure!(u64::try_from(reads.len())? == sectors, "The {what} was not read as a whole: {reads:?}");
        let count = reads.values().copied().max().unwrap_or_default();
        say(&format!("{what}: {sectors} sectors, none read more than {count} times"));
        ensure!(count <= most, "The {what} was read {count} times: {reads:?}");
    }
    Ok(())
}

/// The guest's own tools saw the forged header on the disk, while the mapping stayed the right one.
fn was_lied_to(outcome: &Outcome, server: &Nbd) -> Result<()> {
    let seen = outcome.evidence()?.text("after.log")?;
    ensure!(seen.contains(FORGED), "blkid saw no forged header: {seen}");
    ensure!(server.lies_told() > 0, "No lie was told");
    Ok(())
}

/// Runs in the initramfs when the mapping is there, past the kernel's cache.
const LOOK_AGAIN: &str = "sleep 5
echo 3 > /proc/sys/vm/drop_caches
blkid -p /dev/vda2
";
/// The label of the forged header.
const FORGED: &str = "forged";
/// A range of the partition as one of the disk.
fn on_disk(range: &Range<u64>) -> Range<u64> {
    PARTITION + range.start..PARTITION + range.end
}

/// Where the partition begins (`disk.rs`).
const PARTITION: u64 = 98 << 20;
/// Bytes of one copy of the header, as cryptsetup makes it.
const COPY: u64 = 0x4000;
