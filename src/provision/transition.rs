//! Plans how a volume's metadata changes from its present to its future state, as a list of writes and
//! flushes. Pure, so that a test can cut the list anywhere.
//!
//! First come keyslot areas that no header names yet, then one copy of the header after the other, and last
//! the areas that no header names any more. Wherever the list is cut, at least one valid copy holds the old
//! header or the new one, and every keyslot that either of them names is complete.

use crate::format::luks::{Condition, renumber};

/// One step, which must be complete before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteStep<'a> {
    /// Writes these bytes at an offset of the volume.
    Write(u64, std::borrow::Cow<'a, [u8]>),
    /// Makes everything written so far durable.
    Flush,
}

/// The two states.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    /// The present metadata.
    pub(super) before: &'a [u8],
    /// The future metadata, of the same length.
    pub(super) after: &'a [u8],
    /// Bytes of one copy of the header.
    pub(super) header: usize,
    /// The sequence number of the header in use.
    pub(super) seqid: u64,
    /// Which copy is in use.
    pub(super) condition: Condition,
    /// Areas (offset, end) that only the old header names.
    pub(super) abandoned: &'a [(u64, u64)],
}

impl<'a> Change<'a> {
    /// The steps; `None` if a number is out of range.
    pub(super) fn steps(&self) -> Option<Vec<WriteStep<'a>>> {
        let mut steps = self.areas(false);
        // libcryptsetup counted each of its changes, but the volume gets them as one.
        let seqid = self.seqid.checked_add(1)?;
        let copies: Vec<&[u8]> = self.after.chunks(self.header).take(2).collect();
        let order = match self.condition {
            // The copy in use is written last. It must not get two writes ahead of the other one, either.
            Condition::Sound | Condition::SecondaryStale | Condition::SecondaryDamaged(_) => [1, 0],
            Condition::PrimaryStale | Condition::PrimaryDamaged(_) => [0, 1],
        };
        for index in order {
            let copy = renumber::with_seqid(copies.get(index)?, seqid)?;
            steps.push(WriteStep::Write(to_u64(index.checked_mul(self.header)?), copy.into()));
            steps.push(WriteStep::Flush);
        }
        steps.append(&mut self.areas(true));
        Some(steps)
    }

    /// The writes for all runs of changed blocks behind the headers: in abandoned areas, or elsewhere.
    fn areas(&self, abandoned: bool) -> Vec<WriteStep<'a>> {
        let headers = self.header.saturating_mul(2);
        let blocks = self.after.chunks(BLOCK).zip(self.before.chunks(BLOCK)).enumerate();
        let changed = blocks.filter(|(_, (new, old))| new != old);
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (index, (new, _)) in changed {
            let offset = index.saturating_mul(BLOCK);
            let position = to_u64(offset);
            let gone = self.abandoned.iter().any(|(start, end)| (*start..*end).contains(&position));
            if offset < headers || gone != abandoned {
                continue;
            }
            let end = offset.saturating_add(new.len());
            match runs.last_mut().filter(|(_, last)| *last == offset) {
                Some((_, last)) => *last = end,
                None => runs.push((offset, end)),
            }
        }
        let write = |(start, end): (usize, usize)| {
            self.after.get(start..end).map(|bytes| WriteStep::Write(to_u64(start), bytes.into()))
        };
        let mut steps: Vec<_> = runs.into_iter().filter_map(write).collect();
        if !steps.is_empty() {
            steps.push(WriteStep::Flush);
        }
        steps
    }
}

fn to_u64(offset: usize) -> u64 {
    // usize has at most 64 bits on every Linux target.
    u64::try_from(offset).unwrap_or(u64::MAX)
}

/// Block size for writing changed keyslot areas: the alignment of the areas (LUKS2 on-disk format, 1.3).
const BLOCK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::luks::Damage;

    const HEADER: usize = 0x4000;

    fn change<'a>(
        before: &'a [u8],
        after: &'a [u8],
        condition: Condition,
        gone: &'a [(u64, u64)],
    ) -> Change<'a> {
        Change { before, after, header: HEADER, seqid: 6, condition, abandoned: gone }
    }

    /// Offsets of the writes, `None` for a flush.
    fn order(steps: &[WriteStep<'_>]) -> Vec<Option<u64>> {
        let offset = |step: &WriteStep<'_>| match step {
            WriteStep::Write(offset, _) => Some(*offset),
            WriteStep::Flush => None,
        };
        steps.iter().map(offset).collect()
    }

    #[test]
    fn new_areas_come_before_the_headers_and_abandoned_ones_after_them() {
        let before = vec![0; 0x10000];
        let mut after = before.clone();
        for at in [0x9000, 0xa000, 0xb000, 0xd000] {
            after[at] = 1;
        }
        let gone = [(0x9000, 0xa000)];
        let steps = change(&before, &after, Condition::Sound, &gone).steps().unwrap();
        assert!(
            matches!(&steps[0], WriteStep::Write(_, bytes) if bytes.len() == 0x2000),
            "one write for two blocks"
        );
        assert_eq!(
            order(&steps),
            [Some(0xa000), Some(0xd000), None, Some(0x4000), None, Some(0), None, Some(0x9000), None]
        );
    }

    #[test]
    fn the_copy_in_use_is_touched_last() {
        let bytes = vec![0; 0x10000];
        for (condition, expected) in [
            (Condition::Sound, [Some(0x4000), None, Some(0), None]),
            (Condition::SecondaryStale, [Some(0x4000), None, Some(0), None]),
            (Condition::SecondaryDamaged(Damage::Checksum), [Some(0x4000), None, Some(0), None]),
            (Condition::PrimaryStale, [Some(0), None, Some(0x4000), None]),
            (Condition::PrimaryDamaged(Damage::Magic), [Some(0), None, Some(0x4000), None]),
        ] {
            let steps = change(&bytes, &bytes, condition, &[]).steps().unwrap();
            assert_eq!(order(&steps), expected, "{condition:?}");
        }
    }

    #[test]
    fn both_copies_get_the_number_after_the_one_in_use() {
        let bytes = vec![0; 0x10000];
        for step in change(&bytes, &bytes, Condition::Sound, &[]).steps().unwrap() {
            if let WriteStep::Write(_, copy) = step {
                assert_eq!(copy[16..24], 7_u64.to_be_bytes());
            }
        }
    }

    #[test]
    fn a_sequence_number_without_a_successor_is_refused() {
        let bytes = vec![0; 0x10000];
        let change = Change { seqid: u64::MAX, ..change(&bytes, &bytes, Condition::Sound, &[]) };
        assert_eq!(change.steps(), None);
    }
}
