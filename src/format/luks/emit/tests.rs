use super::*;
use crate::base::uuid::Uuid;
use crate::format::luks::kdf::tests::any_kdf;
use crate::format::luks::{
    BinaryHeader, Cipher, Condition, Digest, Entry, Flag, FlagSet, Hash, Label, Metadata, Segment,
    SegmentSize,
};
use proptest::prelude::*;

const VOLUME: u64 = 32 << 20;

fn any_cipher() -> impl Strategy<Value = Cipher> {
    prop::sample::select(vec![Cipher::Aes128Xts, Cipher::Aes256Xts])
}

fn any_hash() -> impl Strategy<Value = Hash> {
    prop::sample::select(vec![Hash::Sha256, Hash::Sha384, Hash::Sha512])
}

fn any_segment() -> impl Strategy<Value = Segment> {
    let size =
        prop_oneof![Just(SegmentSize::Dynamic), (1..=4096_u64).prop_map(|n| SegmentSize::Fixed(n * 4096))];
    let sector = prop::sample::select(vec![512, 1024, 2048, 4096]);
    (0..4096_u64, size, any_cipher(), sector).prop_map(|(offset, bytes, cipher, sector_size)| {
        let offset = (2 << 20) + offset * 4096;
        Segment { offset, bytes, cipher, sector_size }
    })
}

fn any_digest() -> impl Strategy<Value = Digest> {
    (any_hash(), 1..1_000_000_u32, any::<[u8; 32]>(), any::<[u8; 64]>()).prop_map(
        |(hash, iterations, salt, value)| Digest {
            hash,
            iterations,
            salt,
            value: value[..hash.size()].to_vec(),
        },
    )
}

fn any_flags() -> impl Strategy<Value = FlagSet> {
    prop::sample::subsequence(Flag::ALL.to_vec(), 0..=Flag::ALL.len())
        .prop_map(|flags| flags.into_iter().collect())
}

/// A snapshot that `Snapshot::read` could return.
fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let identity = (any::<[u8; 16]>(), any::<u64>());
    let keyslot = (any_hash(), any_cipher(), any_kdf(), 63..=256_u64);
    (identity, any_segment(), any_digest(), any_flags(), keyslot).prop_map(
        |((uuid, seqid), segment, digest, flags, (split_hash, cipher, kdf, pages))| {
            let area = Area { offset: 0x8000, size: pages * 4096, cipher };
            let keyslot = Keyslot { key_size: segment.cipher.key_size(), split_hash, area, kdf };
            Snapshot {
                header: BinaryHeader {
                    size: HeaderSize::MIN,
                    seqid,
                    label: Label::default(),
                    subsystem: Label::default(),
                    uuid: Uuid::new(uuid),
                },
                metadata: Metadata {
                    keyslots: [(0, Entry::parse("keyslots.0", &keyslot.to_json()).unwrap())].into(),
                    segment,
                    digest,
                    tokens: [].into(),
                    flags,
                },
                condition: Condition::Sound,
                // Ends anywhere within a sector.
                volume_size: VOLUME + segment.offset + u64::from(uuid[0] % 8) * 512,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reading what we write returns what we wrote: nothing of the snapshot is lost or changed, except that
    /// the length of the data is fixed.
    #[test]
    fn reading_the_canonical_header_is_the_identity(snapshot in any_snapshot(), fill: u8) {
        let keyslot = snapshot.keyslot(0).unwrap();
        let bytes = vec![fill; usize::try_from(keyslot.area.size).unwrap()];
        let area = KeyslotArea { number: 0, keyslot, bytes };
        let header = canonical_header(&snapshot, &area);
        let allowed = Flag::ALL.into_iter().collect();
        let again = Snapshot::read(&header, snapshot.volume_size, 512, &allowed).unwrap();
        prop_assert_eq!(again.data_bytes(), snapshot.data_bytes());
        let mut fixed = snapshot;
        fixed.metadata.segment.bytes = SegmentSize::Fixed(fixed.data_bytes());
        prop_assert_eq!(&again, &fixed);
        prop_assert_eq!(again.read_area(&header, 0).unwrap(), area);
    }
}
