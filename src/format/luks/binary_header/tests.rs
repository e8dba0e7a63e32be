use super::*;
use proptest::prelude::*;

/// A header at `place`, with the checksum over itself and `json`.
fn sector(place: Place, json: &[u8]) -> [u8; SECTOR] {
    let (magic, size, offset) = match place {
        Place::Primary => (MAGIC_PRIMARY, HeaderSize::MIN, 0),
        Place::Secondary(size) => (MAGIC_SECONDARY, size, size.bytes()),
    };
    let mut bytes = [0; SECTOR];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &magic);
    put(6, &[0, 2]);
    put(8, &size.bytes().to_be_bytes());
    put(16, &7_u64.to_be_bytes());
    put(24, b"label");
    put(72, b"sha256");
    put(104, &[0x5a; 64]);
    put(168, b"4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
    put(208, b"subsystem");
    put(256, &u64::to_be_bytes(offset));
    let sum = Sha256::new().chain_update(bytes).chain_update(json).finalize();
    bytes[448..480].copy_from_slice(&sum);
    bytes
}

#[test]
fn a_header_is_read_at_its_place() {
    for place in [Place::Primary, Place::Secondary(HeaderSize(0x8000))] {
        let bytes = sector(place, b"{}\0");
        let header = Unverified::parse(&bytes, place).unwrap().verify(b"{}\0").unwrap().unwrap();
        assert_eq!(
            (header.seqid, header.label.to_string(), header.subsystem.to_string()),
            (7, "label".to_owned(), "subsystem".to_owned())
        );
        assert_eq!(header.uuid.to_string(), "4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
    }
}

#[test]
fn a_header_at_another_place_is_no_header() {
    let primary = sector(Place::Primary, b"");
    let secondary = sector(Place::Secondary(HeaderSize(0x8000)), b"");
    let parse = |bytes, place| Unverified::parse(bytes, place).map(|_| ()).unwrap_err();
    assert_eq!(parse(&primary, Place::Secondary(HeaderSize::MIN)), Damage::Magic);
    assert_eq!(parse(&secondary, Place::Primary), Damage::Magic);
    assert_eq!(parse(&secondary, Place::Secondary(HeaderSize::MIN)), Damage::Size(0x8000));
}

#[test]
fn only_the_sizes_of_the_specification_are_sizes() {
    for shift in 0..64 {
        assert_eq!(HeaderSize::new(1 << shift).is_some(), (14..=22).contains(&shift), "2^{shift}");
    }
    for bytes in [0, 4096, 0x4001, 0x5000, 0x80_0000, u64::MAX] {
        assert_eq!(HeaderSize::new(bytes), None, "{bytes}");
    }
}

#[test]
fn the_checksum_covers_every_byte_of_header_and_json() {
    let sound = sector(Place::Primary, b"{}\0");
    for position in (0..SECTOR).filter(|position| !(480..512).contains(position)) {
        let mut bytes = sound;
        bytes[position] ^= 1;
        let verified =
            Unverified::parse(&bytes, Place::Primary).and_then(|header| header.verify(b"{}\0").map(drop));
        assert!(verified.is_err(), "byte {position}");
    }
    let header = Unverified::parse(&sound, Place::Primary).unwrap();
    assert_eq!(header.verify(b"{}\x01").unwrap_err(), Damage::Checksum);
}

#[test]
fn a_label_may_hold_any_bytes_and_is_shown_with_escapes() {
    let shown = |field: &[u8]| Label::parse(field).to_string();
    assert_eq!(shown(b"Gr\xf6\xdfe\0rest\0"), r"Gr\xf6\xdfe");
    assert_eq!(shown("Größe \"x\"\0".as_bytes()), "Größe \"x\"");
    assert_eq!(shown("\u{202e}\u{2028}\u{9b}\0".as_bytes()), r"\u{202e}\u{2028}\u{9b}");
    assert_eq!(shown(b"\x1b[31m\\\0"), r"\u{1b}[31m\\");
    assert_eq!(shown(&[b'x'; 48]), "x".repeat(47), "without its end, as cryptsetup reads it");
    assert!(Label::parse(b"\0hidden").is_empty() && Label::parse(b"").is_empty());
}

proptest! {
    #[test]
    fn any_label_can_be_shown_on_one_line(field in prop::collection::vec(any::<u8>(), 48)) {
        prop_assert!(!Label::parse(&field).to_string().chars().any(char::is_control));
    }

    #[test]
    fn any_sector_gives_an_answer(bytes in prop::collection::vec(any::<u8>(), SECTOR), json in ".{0,8}") {
        let mut bytes: [u8; SECTOR] = bytes.try_into().unwrap();
        prop_assert!(Unverified::parse(&bytes, Place::Primary).is_err());
        // With valid values in all fields that are checked first, the checksum decides.
        bytes[..24].copy_from_slice(&sector(Place::Primary, b"")[..24]);
        bytes[72..104].copy_from_slice(&sector(Place::Primary, b"")[72..104]);
        bytes[256..264].fill(0);
        let header = Unverified::parse(&bytes, Place::Primary).unwrap();
        prop_assert_eq!(header.verify(json.as_bytes()).unwrap_err(), Damage::Checksum);
    }
}
