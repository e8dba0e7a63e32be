//! V5 of `attacks.rs`: the disk changes while it is read. Whatever is swapped, and whenever, we accept one
//! complete header or none.

use std::cell::Cell;
use std::io;

use cvm_unlock::base::source::Source;
use cvm_unlock::format::luks::{FlagSet, Snapshot};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::support::forge::{Field, Forge};
use crate::support::snapshot::read;
use crate::support::volumes::{VOLUME, Volume};

/// A disk that becomes another one after some reads.
struct Swapped<'a> {
    before: &'a [u8],
    after: &'a [u8],
    /// How many reads are still answered from `before`.
    left: Cell<usize>,
}

impl Source for Swapped<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        if left > 0 { self.before } else { self.after }.read_at(buffer, offset)
    }
}

/// A disk whose sectors each come from one of two disks, as the host chooses.
struct Patchwork<'a> {
    volumes: [&'a [u8]; 2],
    /// Which one, by sector of 512 bytes; the rest is from the first.
    choice: &'a [bool],
}

impl Source for Patchwork<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert_eq!(offset % 512, 0, "reads begin at sectors");
        for (sector, chunk) in (offset / 512..).zip(buffer.chunks_mut(512)) {
            let choice = self.choice.get(usize::try_from(sector).unwrap()).copied().unwrap_or_default();
            self.volumes[usize::from(choice)].read_at(chunk, sector * 512)?;
        }
        Ok(())
    }
}

/// A sound volume and the host's replacements: a null cipher, another token, a newer header, another volume.
fn volumes() -> (Vec<u8>, Vec<Vec<u8>>) {
    let sound = Volume::format(&["--luks2-metadata-size=16384"]).bytes();
    let forge = || Forge::of(&sound);
    let token = json!({"type": "x", "keyslots": []});
    let newer = (forge().primary.sequence_id() + 1).to_be_bytes();
    let others = vec![
        forge().set("/segments/0/encryption", &json!("cipher_null-ecb")).volume(),
        forge().set("/tokens/0", &token).volume(),
        forge().set("/tokens/0", &token).field(Field::SequenceId, &newer).volume(),
        forge().field(Field::Uuid, b"6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1").volume(),
        Volume::format(&["--luks2-metadata-size=16384", "--key-size=256"]).bytes(),
        Volume::format(&["--luks2-metadata-size=32768", "--sector-size=512"]).bytes(),
        vec![0; sound.len()],
    ];
    (sound, others)
}

/// The content of a snapshot, without the state of the copies, which a swap may damage.
fn story(snapshot: &Snapshot) -> String {
    let (uuid, seqid) = (snapshot.uuid(), snapshot.seqid());
    let (segment, digest) = (snapshot.segment(), snapshot.digest());
    format!("{uuid} {seqid} {segment:?} {digest:?} {:?} {:?}", snapshot.keyslots(), snapshot.tokens())
}

fn whole(volume: &[u8]) -> Option<String> {
    read(volume).ok().as_ref().map(story)
}

fn read_from(source: &impl Source) -> Option<Snapshot> {
    Snapshot::read(source, VOLUME, 512, &FlagSet::default()).ok()
}

#[test]
fn a_disk_that_is_swapped_after_any_read_is_one_or_the_other_or_refused() {
    let (sound, others) = volumes();
    let (mut first, mut second, mut refused) = (0, 0, 0);
    for other in &others {
        for (before, after) in [(&sound, other), (other, &sound)] {
            let told = [whole(before), whole(after)];
            for reads in 0..READS {
                let source = Swapped { before, after, left: Cell::new(reads) };
                let Some(snapshot) = read_from(&source) else {
                    refused += 1;
                    continue;
                };
                let story = Some(story(&snapshot));
                assert!(told.contains(&story), "after {reads} reads: {story:?}");
                if story == told[0] { first += 1 } else { second += 1 }
            }
            let never = Swapped { before, after, left: Cell::new(READS) };
            let story = read_from(&never).as_ref().map(self::story);
            assert_eq!((story, never.left.get() > 0), (told[0].clone(), true), "{READS} reads are enough");
        }
    }
    assert!(first > 0 && second > 0 && refused > 0, "{first} {second} {refused}");
}

#[test]
fn any_patchwork_of_two_disks_is_one_or_the_other_or_refused() {
    let (sound, others) = volumes();
    let told: Vec<_> = others.iter().map(|other| whole(other)).collect();
    let genuine = whole(&sound);
    // The metadata of the largest header has 128 sectors.
    let choice = prop_oneof![
        prop::collection::vec(any::<bool>(), 128),
        // Swaps of one copy, or of few sectors, which random choices would never hit.
        (0..129_usize, 0..129_usize)
            .prop_map(|(from, to)| (0..128).map(|at| from <= at && at < to).collect()),
        prop::sample::subsequence((0..128).collect::<Vec<usize>>(), 0..4)
            .prop_map(|some| (0..128).map(|at| some.contains(&at)).collect()),
    ];
    let case = (choice, 0..others.len());
    let accepted = Cell::new(0_u32);
    let mut runner = TestRunner::new(Config { cases: 2000, ..Config::default() });
    let outcome = runner.run(&case, |(choice, other)| {
        let source = Patchwork { volumes: [&sound, &others[other]], choice: &choice };
        if let Some(snapshot) = read_from(&source) {
            let story = Some(story(&snapshot));
            prop_assert!(story == genuine || story == told[other], "a mixture: {:?}", story);
            accepted.set(accepted.get() + 1);
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(accepted.get() > 100, "only {} patchworks were accepted", accepted.get());
}

#[cfg(feature = "native")]
#[test]
fn a_keyslot_area_that_is_swapped_after_the_header_was_read_gives_the_right_key_or_none() {
    use cvm_unlock::base::secret::Secret;
    use cvm_unlock::cryptsetup::Detached;
    use cvm_unlock::format::luks::emit;

    let (sound, others) = volumes();
    let snapshot = read(&sound).unwrap();
    let passphrase = Secret::copy_of(crate::support::volumes::PASSPHRASE.as_bytes());
    let open = |disk: &[u8]| {
        let area = snapshot.read_area(disk, 0).unwrap();
        let header = emit::canonical_header(&snapshot, &area);
        let key = Detached::load(&header, None).unwrap().volume_key(&passphrase, 64).ok()?;
        Some((area.bytes().to_vec(), key.expose().to_vec()))
    };
    let (genuine, key) = open(&sound).unwrap();
    let mut refused = 0;
    for other in &others {
        match open(other) {
            Some((area, same)) => assert!(area == genuine && same == key),
            None => refused += 1,
        }
    }
    assert_eq!(refused, 3, "the two other volumes and the empty disk");
}

/// More reads than any header takes.
const READS: usize = 32;
