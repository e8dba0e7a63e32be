//! Attack: the host answers the second read of the header with another header than the first. It counts how often the guest
//! reads each sector of the metadata, from the moment at which the kernel starts its first process: the kernel, udev, we,
//! libcryptsetup and the real root together.
//!
//! What the guest reads once cannot be told two ways. udev's look at the partition and ours share the kernel's page cache,
//! which lies in the guest's memory; libcryptsetup reads the first block once more, past that cache, to learn whether the
//! device can do that, and does not look at what it gets.

use std::ops::Range;

use anyhow::{Result, ensure};

use crate::boot::Boot;
use crate::disk::Root;
use crate::forged::{in_clear, keyslot_area};
use crate::lab::Lab;
use crate::nbd::Nbd;
use crate::volume::Userland;

/// One boot from an honest disk that counts, one from the disk that lies.
///
/// # Errors
/// When something is read twice that should not be, or the lie has an effect.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.product_uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk("changing-disk", Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let socket = lab.cache.root().join("s/nbd");
    let header = std::fs::read(enrolled.header())?;

    let honest = Nbd::serve(disk.path(), socket.clone(), None)?;
    let outcome = Boot::new(lab, "changing-disk-honest")?.served(&honest).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    let (copies, area) = (0..2 * COPY, keyslot_area(&header)?);
    for (what, range) in [("the header", copies.clone()), ("the keyslot's area", area.clone())] {
        report(what, &range, &honest);
    }
    outcome.explain(read_once(&honest, &copies, &area))?;

    // Everything before the data, with the null cipher in the segment.
    let forged = in_clear(&header).volume();
    let liar = Nbd::serve(disk.path(), socket, Some((PARTITION, &forged)))?;
    let outcome = Boot::new(lab, "changing-disk")?.served(&liar).tpm(enrolled.tpm()).run()?;
    outcome.reached_real_root()?;
    println!("  lies told: {} sectors", liar.lies_told());
    disk.discard()
}

/// Each sector of the metadata came from the disk once, but for the first block.
fn read_once(server: &Nbd, copies: &Range<u64>, area: &Range<u64>) -> Result<()> {
    for (range, most) in [(0..BLOCK, 2), (BLOCK..copies.end, 1), (area.clone(), 1)] {
        let reads = server.reads(&on_disk(&range));
        let sectors = (range.end - range.start) / 512;
        ensure!(u64::try_from(reads.len())? == sectors, "{range:?} was not read as a whole: {reads:?}");
        let again: Vec<_> = reads.iter().filter(|(_, count)| **count > most).collect();
        ensure!(again.is_empty(), "{range:?} was read more than {most} times: {again:?}");
    }
    Ok(())
}

fn report(what: &str, range: &Range<u64>, server: &Nbd) {
    let reads = server.reads(&on_disk(range));
    for count in 1..=reads.values().copied().max().unwrap_or(0) {
        let sectors = reads.values().filter(|reads| **reads == count).count();
        println!("  {what}: {sectors} sectors were read {count} times");
    }
}

/// A range of the partition as one of the disk.
fn on_disk(range: &Range<u64>) -> Range<u64> {
    PARTITION + range.start..PARTITION + range.end
}

/// Where the partition begins (`disk.rs`).
const PARTITION: u64 = 98 << 20;
/// Bytes of one copy of the header, as cryptsetup makes it.
const COPY: u64 = 0x4000;
/// What a direct read has to ask for at least.
const BLOCK: u64 = 4096;
