//! What the guest sent through its network card, from QEMU's recording (a pcap file).

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

use crate::network::card::MAC_BYTES;

/// Frames that passed the card, in both directions and in order.
#[derive(Debug, Clone, Default)]
pub struct Packets(Vec<Vec<u8>>);

impl Packets {
    /// Reads a recording.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("Reading {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{} is no recording", path.display()))
    }

    /// The pcap format as QEMU writes it: in the host's byte order, which is little endian here. A last frame
    /// that is cut off (the machine was switched off) is left out.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*magic) != PCAP_MAGIC {
            return None;
        }
        let (_, mut rest) = rest.split_at_checked(PCAP_HEADER - 4)?;
        let mut frames = Vec::new();
        while let Some((header, more)) = rest.split_first_chunk::<PCAP_RECORD>() {
            // Seconds, microseconds, bytes in the file, bytes on the wire.
            let (_, lengths) = header.split_last_chunk::<8>()?;
            let length = usize::try_from(u32::from_le_bytes(*lengths.first_chunk()?)).ok()?;
            let Some((frame, more)) = more.split_at_checked(length) else { break };
            frames.push(frame.to_vec());
            rest = more;
        }
        Some(Self(frames))
    }

    /// Those that the guest sent.
    pub fn sent(&self) -> Vec<Packet<'_>> {
        let from_guest = |frame: &&Vec<u8>| frame.get(6..12) == Some(MAC_BYTES.as_slice());
        self.0.iter().filter(from_guest).map(|frame| Packet(frame)).collect()
    }
}

/// An Ethernet frame of the guest's.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(&'a [u8]);

impl Packet<'_> {
    /// The sender's address, of an IPv4 packet.
    pub fn ipv4_source(&self) -> Option<Ipv4Addr> {
        let is_ipv4 = self.0.get(12..14)? == [8, 0];
        let source: [u8; 4] = self.0.get(26..30)?.try_into().ok()?;
        is_ipv4.then(|| source.into())
    }

    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        let protocol = |at: usize| self.0.get(at).copied();
        match self.0.get(12..14) {
            Some([8, 6]) => "ARP",
            Some([8, 0]) => match protocol(14 + 9) {
                Some(6) => "TCP over IPv4",
                Some(17) => "UDP over IPv4",
                _ => "IPv4",
            },
            Some([0x86, 0xdd]) => match protocol(14 + 6) {
                Some(6) => "TCP over IPv6",
                Some(17) => "UDP over IPv6",
                _ => "IPv6",
            },
            _ => "neither ARP nor IP",
        }
    }
}

// pcap-savefile(5).
const PCAP_MAGIC: u32 = 0xa1b2_c3d4;
const PCAP_HEADER: usize = 24;
const PCAP_RECORD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = PCAP_MAGIC.to_le_bytes().to_vec();
        bytes.resize(PCAP_HEADER, 0);
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
            bytes.extend([&[0; 8], length.as_slice(), &length, frame].concat());
        }
        bytes
    }

    fn frame(source: [u8; 6], kind: [u8; 2], protocol: u8) -> Vec<u8> {
        let mut frame = [[0xff; 6].as_slice(), &source, &kind, &[0; 40]].concat();
        let at = if kind == [8, 0] { 14 + 9 } else { 14 + 6 };
        *frame.get_mut(at).unwrap() = protocol;
        frame
    }

    #[test]
    fn only_what_the_guest_sent_counts() {
        let others = frame([0x52, 0x55, 10, 0, 2, 2], [8, 6], 0);
        let guests = [
            frame(MAC_BYTES, [8, 6], 0),
            frame(MAC_BYTES, [8, 0], 17),
            frame(MAC_BYTES, [0x86, 0xdd], 6),
            frame(MAC_BYTES, [0x86, 0xdd], 58),
        ];
        let silent = Packets::parse(&recording(&[&others, &others])).unwrap();
        assert!(silent.sent().is_empty());
        let frames: Vec<_> = std::iter::once(&others).chain(&guests).map(Vec::as_slice).collect();
        let talking = Packets::parse(&recording(&frames)).unwrap();
        let kinds: Vec<_> = talking.sent().iter().map(Packet::kind).collect();
        assert_eq!(kinds, ["ARP", "UDP over IPv4", "TCP over IPv6", "IPv6"]);
    }

    #[test]
    fn the_sender_of_an_ipv4_packet_is_named() {
        let mut packet = frame(MAC_BYTES, [8, 0], 17);
        packet.splice(26..30, [10, 0, 2, 77]);
        assert_eq!(Packet(&packet).ipv4_source(), Some(Ipv4Addr::new(10, 0, 2, 77)));
        assert_eq!(Packet(&frame(MAC_BYTES, [0x86, 0xdd], 17)).ipv4_source(), None);
        assert_eq!(Packet(&[]).ipv4_source(), None);
    }

    #[test]
    fn a_frame_that_is_cut_off_is_left_out_and_what_is_no_recording_is_an_error() {
        let whole = recording(&[&frame(MAC_BYTES, [8, 6], 0), &frame(MAC_BYTES, [8, 6], 0)]);
        let cut = whole.get(..whole.len() - 1).unwrap();
        assert_eq!(Packets::parse(cut).unwrap().sent().len(), 1);
        assert_eq!(Packets::parse(&recording(&[])).unwrap().sent().len(), 0);
        assert!(Packets::parse(&[]).is_none());
        assert!(Packets::parse(b"not a recording, but long enough for one").is_none());
    }
}
