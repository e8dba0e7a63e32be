//! Rewrites a header copy with another sequence number. Changes that take libcryptsetup several writes can
//! then reach the disk in one.

use sha2::{Digest, Sha256};

use super::binary_header::{CHECKSUM_AT, CHECKSUM_BYTES};

/// One copy of a header (binary header and JSON area) with the sequence number `seqid` and a fresh checksum;
/// `None` if it is too short.
#[must_use]
pub fn with_seqid(copy: &[u8], seqid: u64) -> Option<Vec<u8>> {
    let mut copy = copy.to_vec();
    copy.get_mut(SEQID_AT..)?.first_chunk_mut::<8>()?.copy_from_slice(&seqid.to_be_bytes());
    // The checksum covers the copy with the checksum field zeroed (on-disk format specification, 2.1).
    copy.get_mut(CHECKSUM_AT..)?.first_chunk_mut::<CHECKSUM_BYTES>()?.fill(0);
    let checksum = Sha256::digest(&copy);
    copy.get_mut(CHECKSUM_AT..)?.first_chunk_mut::<32>()?.copy_from_slice(&checksum);
    Some(copy)
}

/// Offset of `seqid`, a big-endian 64-bit number (on-disk format specification, 2.1: magic 6, version 2,
/// hdr_size 8).
const SEQID_AT: usize = 16;
