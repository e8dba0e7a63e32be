//! The parsers of untrusted input, one function each: returns whether the parser accepts the bytes, and
//! asserts what must hold for every input (bounds, inverses, canonical forms). Used by the fuzzer and by the
//! tests of the corpora.
//!
//! Checksums do not keep an attacker out, so they must not keep the fuzzer out: they are computed anew.

use std::io;

use crc::{CRC_32_ISO_HDLC, Crc};
use cvm_unlock::attest::Delivered;
use cvm_unlock::base::json::{Json, parse_json};
use cvm_unlock::base::secret::Secret;
use cvm_unlock::base::source::Source;
use cvm_unlock::config::Config;
use cvm_unlock::format::gpt::Table;
use cvm_unlock::format::gpt::sector::SectorSize;
use cvm_unlock::format::luks::{Flag, FlagSet, Segment, SegmentSize, Snapshot, emit};
use cvm_unlock::format::owner_key::PublicKey;
use cvm_unlock::format::pcr_signature::Signatures;
use cvm_unlock::format::token::key_broker::KeyBrokerToken;
use cvm_unlock::format::token::systemd_tpm2::Token;
use cvm_unlock::format::tpm2::blob::Sealed;
use cvm_unlock::format::tpm2::srk::Srk;
use cvm_unlock::network::{of_networkd, of_resolv_conf};
use cvm_unlock::policy::key::PolicyKey;
use sha2::{Digest, Sha256};

/// One parser.
pub(crate) struct Target {
    /// Name of the parser and of its corpus.
    pub(crate) name: &'static str,
    /// Whether the parser accepts these bytes.
    pub(crate) parse: fn(&[u8]) -> bool,
}

/// All parsers.
pub(crate) const ALL: [Target; 12] = [
    Target { name: "gpt", parse: gpt },
    Target { name: "header", parse: header },
    Target { name: "json", parse: json },
    Target { name: "token", parse: token },
    Target { name: "kbs-token", parse: kbs_token },
    Target { name: "key-document", parse: key_document },
    Target { name: "blob", parse: blob },
    Target { name: "srk", parse: srk },
    Target { name: "signature", parse: signature },
    Target { name: "key", parse: key },
    Target { name: "config", parse: config },
    Target { name: "name-servers", parse: name_servers },
];

/// A disk that is zero where nothing was written.
#[derive(Default)]
struct Sparse {
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    fn put(&mut self, at: u64, bytes: Vec<u8>) {
        self.pieces.push((at, bytes));
    }
}

impl Source for Sparse {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let length = u64::try_from(buffer.len()).unwrap();
        let end = offset.checked_add(length).filter(|end| *end <= self.size);
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buffer.fill(0);
        for (at, bytes) in &self.pieces {
            let stop = at + u64::try_from(bytes.len()).unwrap();
            let (from, to) = (offset.max(*at), end.min(stop));
            if from < to {
                let index = |position: u64, base: u64| usize::try_from(position - base).unwrap();
                buffer[index(from, offset)..index(to, offset)]
                    .copy_from_slice(&bytes[index(from, *at)..index(to, *at)]);
            }
        }
        Ok(())
    }
}

/// One byte of switches (1: the primary header is damaged; 2: sectors of 4096 bytes), the 92 bytes of the
/// primary header, those of the backup header, then the entries. Both arrays are equal and lie where the
/// headers say.
fn gpt(input: &[u8]) -> bool {
    let Some((switches, headers, entries)) = parts::<184>(input) else { return false };
    let sector = if switches & 2 == 0 { SectorSize::B512 } else { SectorSize::B4096 };
    let bytes = u64::from(sector.bytes());
    let mut disk = Sparse { size: 4096 * bytes, pieces: Vec::new() };
    for (half, lba) in [(&headers[..92], 1), (&headers[92..], 4095)] {
        let mut header = half.to_vec();
        let number = |at: usize| u32::from_le_bytes(half[at..at + 4].try_into().unwrap());
        let size = u64::from(number(80)).saturating_mul(u64::from(number(84)));
        let mut array = entries.to_vec();
        // A larger array is refused before it is read.
        array.resize(usize::try_from(if size > 1 << 20 { 0 } else { size }).unwrap(), 0);
        let array_lba = u64::from_le_bytes(header[72..80].try_into().unwrap());
        header[88..92].copy_from_slice(&crc32(&array).to_le_bytes());
        let stated = usize::try_from(number(12)).unwrap().clamp(92, 4096);
        header[16..20].fill(0);
        let mut padded = header.clone();
        padded.resize(stated, 0);
        header[16..20].copy_from_slice(&crc32(&padded).to_le_bytes());
        disk.put(lba * bytes, header);
        disk.put(array_lba.saturating_mul(bytes).min(disk.size), array);
    }
    if switches & 1 != 0 {
        disk.put(bytes, vec![0; 8]);
    }
    let Ok(table) = Table::read(&disk, disk.size, sector) else { return false };
    assert!(table.partitions.len() <= 1024);
    let mut end = bytes * 2;
    let mut sorted: Vec<_> = table.partitions.iter().map(|part| (part.start, part.size)).collect();
    sorted.sort_unstable();
    for (start, size) in sorted {
        assert!(start >= end && size > 0, "overlaps, or lies over the table");
        end = start + size;
        assert!(end <= disk.size, "leaves the disk");
    }
    !table.partitions.is_empty()
}

fn crc32(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// One byte of switches (1: the primary copy is damaged; 2: the secondary copy is; 4: sectors of 4096 bytes),
/// 512 bytes of the primary binary header, 512 of the secondary one, then the JSON text of both.
fn header(input: &[u8]) -> bool {
    let Some((switches, headers, text)) = parts::<1024>(input) else { return false };
    let mut volume = Sparse { size: VOLUME, pieces: Vec::new() };
    let size = u64::from_be_bytes(headers[8..16].try_into().unwrap());
    let size = if size.is_power_of_two() { size.clamp(0x4000, 0x40_0000) } else { 0x4000 };
    for (half, at, damaged) in [(&headers[..512], 0, switches & 1), (&headers[512..], size, switches & 2)] {
        let mut copy = half.to_vec();
        copy.resize(4096, 0);
        copy.extend_from_slice(text);
        copy.resize(usize::try_from(size).unwrap(), 0);
        copy[448..512].fill(0);
        let checksum = Sha256::digest(&copy);
        copy[448..480].copy_from_slice(&checksum);
        copy[448] ^= u8::from(damaged != 0);
        volume.put(at, copy);
    }
    let sector = if switches & 4 == 0 { 512 } else { 4096 };
    let allowed: FlagSet = Flag::ALL.into_iter().collect();
    let Ok(snapshot) = Snapshot::read(&volume, VOLUME, sector, &allowed) else { return false };
    canonical(&snapshot, &volume, &allowed);
    for (id, value) in snapshot.tokens() {
        let _any = (Token::parse(*id, value), KeyBrokerToken::parse(*id, value));
    }
    true
}

/// An accepted header has an equivalent canonical form, which is accepted too.
fn canonical(snapshot: &Snapshot, volume: &Sparse, allowed: &FlagSet) {
    let segment = snapshot.segment();
    let fixed = Segment { bytes: SegmentSize::Fixed(snapshot.data_bytes()), ..*segment };
    assert!(segment.offset + snapshot.data_bytes() <= VOLUME && snapshot.data_bytes() > 0);
    for (number, entry) in snapshot.keyslots() {
        assert!(entry.offset + entry.size <= segment.offset);
        if entry.judge().is_err() {
            continue;
        }
        let area = snapshot.read_area(volume, *number).expect("an area lies inside the volume");
        let bytes = emit::canonical_header(snapshot, &area);
        let written = Sparse { size: VOLUME, pieces: vec![(0, bytes.clone())] };
        let again = Snapshot::read(&written, VOLUME, 512, allowed).expect("our own form is accepted");
        assert_eq!(
            (again.uuid(), again.segment(), again.digest(), again.flags(), again.seqid()),
            (snapshot.uuid(), &fixed, snapshot.digest(), snapshot.flags(), snapshot.seqid())
        );
        let again_area = again.read_area(&written, 0).expect("its area is there");
        assert_eq!((again_area.bytes(), &again_area.keyslot().kdf), (area.bytes(), &area.keyslot().kdf));
        assert_eq!(emit::canonical_header(&again, &again_area), bytes, "written twice, read twice");
    }
}

/// JSON text. Accepted text means the same to a lenient parser, and is accepted again as that parser writes
/// it.
fn json(input: &[u8]) -> bool {
    let Ok(tree) = Json::parse(input) else { return false };
    let Ok(value) = tree.strict() else { return true };
    assert_eq!(serde_json::from_slice::<serde_json::Value>(input).ok().as_ref(), Some(&value));
    assert_eq!(parse_json(&serde_json::to_vec(&value).unwrap()).as_ref(), Ok(&value));
    true
}

/// A token's JSON text.
fn token(input: &[u8]) -> bool {
    let Ok(value) = parse_json(input) else { return false };
    let Ok(token) = Token::parse(0, &value) else { return false };
    let _any = token.kind();
    if let Some(signed) = &token.signed {
        let _any = PolicyKey::from_pem(&signed.key);
    }
    true
}

/// The JSON text of a token whose key a key broker holds. An accepted token is written as it was, except for
/// the order of members.
fn kbs_token(input: &[u8]) -> bool {
    let Ok(value) = parse_json(input) else { return false };
    let Ok(token) = KeyBrokerToken::parse(0, &value) else { return false };
    let again = KeyBrokerToken::parse(0, &token.to_json()).expect("our own form is accepted");
    assert_eq!((again.keyslot, &again.path), (token.keyslot, &token.path));
    assert_eq!(again.to_json(), token.to_json(), "written twice, read twice");
    true
}

/// A key broker's resource. A key document is strict JSON; a bare passphrase is accepted, but not
/// interesting.
fn key_document(input: &[u8]) -> bool {
    let Ok(delivered) = Delivered::parse(&Secret::copy_of(input)) else { return false };
    let document = input.first() == Some(&b'{');
    assert_eq!(delivered.binding_key.is_some(), document);
    if document {
        assert_eq!(delivered.passphrase.len(), 44);
        assert!(parse_json(input).is_ok());
    } else {
        assert_eq!(delivered.passphrase.expose(), input);
    }
    document
}

/// A sealed object in a token's form.
fn blob(input: &[u8]) -> bool {
    let Ok(sealed) = Sealed::parse(input) else { return false };
    assert_eq!(sealed.to_bytes(), input);
    true
}

/// A serialised parent key.
fn srk(input: &[u8]) -> bool {
    let Ok(srk) = Srk::parse(input) else { return false };
    assert_eq!(srk.to_bytes(), input);
    true
}

/// A file of signed PCR policies.
fn signature(input: &[u8]) -> bool {
    Signatures::parse(input).is_ok_and(|signatures| signatures != Signatures::default())
}

/// The PEM text of a policy's or an owner's public key.
fn key(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let _any = PublicKey::from_pem(text);
    PolicyKey::from_pem(text).is_ok()
}

/// A configuration. It is measured, not untrusted, but a broken one must do no harm either.
fn config(input: &[u8]) -> bool {
    Config::parse(input).is_ok()
}

/// networkd's state of a link (its third), or a resolver's configuration.
fn name_servers(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let servers = [of_networkd(text, 3), of_resolv_conf(text)].concat();
    for server in &servers {
        assert_eq!(of_resolv_conf(&format!("nameserver {server}\n")), std::slice::from_ref(server));
    }
    !servers.is_empty()
}

/// Splits the input: switches, `N` bytes, and the rest.
fn parts<const N: usize>(input: &[u8]) -> Option<(u8, &[u8; N], &[u8])> {
    let (switches, rest) = input.split_first()?;
    let (head, rest) = rest.split_first_chunk()?;
    Some((*switches, head, rest))
}

/// The checksum of a GPT (UEFI 2.10, 5.3.2).
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
/// Bytes of the volume.
const VOLUME: u64 = 24 << 20;
