//! Reads and writes the TPM's wire form: big-endian integers, and buffers with a 16-bit length (TPM 2.0 Part
//! 2, 10.4). Reading is bounds-checked, since the bytes are untrusted, and allocates nothing.

use thiserror::Error;

/// Reads a byte string from front to back and never beyond its end.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or(WireError::Truncated { wanted: count, left: self.rest.len() })?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated { wanted: N, left: self.rest.len() })?;
        self.rest = tail;
        Ok(*head)
    }

    /// A `UINT16`.
    ///
    /// # Errors
    /// Fewer than two bytes are left.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A `UINT32`.
    ///
    /// # Errors
    /// Fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The content of a `TPM2B`: a 16-bit length, then that many bytes, at most `limit`.
    ///
    /// # Errors
    /// The length is above `limit`, or more than is left.
    pub fn sized(&mut self, limit: usize) -> Result<&'a [u8], WireError> {
        let size = usize::from(self.u16()?);
        if size > limit {
            return Err(WireError::TooLong { size, limit });
        }
        self.bytes(size)
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends reading.
    ///
    /// # Errors
    /// Something is left.
    pub const fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing { left: self.rest.len() }) }
    }
}

/// Appends a `TPM2B` with `content`.
///
/// # Errors
/// `content` is longer than a 16-bit length can express.
pub fn push_sized(out: &mut Vec<u8>, content: &[u8]) -> Result<(), WireError> {
    let size = u16::try_from(content.len())
        .map_err(|_| WireError::TooLong { size: content.len(), limit: usize::from(u16::MAX) })?;
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(content);
    Ok(())
}

/// Why bytes are not in wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The bytes end too early.
    #[error("Ends too early: {wanted} bytes wanted, {left} left")]
    Truncated {
        /// Bytes needed.
        wanted: usize,
        /// Bytes left.
        left: usize,
    },
    /// A buffer's length exceeds what its kind allows.
    #[error("Buffer of {size} bytes where at most {limit} are allowed")]
    TooLong {
        /// The length read.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The structure is complete but bytes follow.
    #[error("{left} bytes after the end")]
    Trailing {
        /// Bytes left over.
        left: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_big_endian() {
        let mut reader = Reader::new(&[0x12, 0x34, 0x81, 0, 0, 1]);
        assert_eq!(reader.u16(), Ok(0x1234));
        assert_eq!(reader.u32(), Ok(0x8100_0001));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(Reader::new(&[0, 3, 1, 2]).sized(9), Err(WireError::Truncated { wanted: 3, left: 2 }));
        assert_eq!(Reader::new(&[0]).sized(9), Err(WireError::Truncated { wanted: 2, left: 1 }));
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_it_is_read() {
        assert_eq!(Reader::new(&[0xff, 0xff]).sized(64), Err(WireError::TooLong { size: 0xffff, limit: 64 }));
    }

    #[test]
    fn bytes_left_over_are_refused() {
        assert_eq!(Reader::new(&[0]).finish(), Err(WireError::Trailing { left: 1 }));
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_read(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = Vec::new();
            push_sized(&mut bytes, &content).unwrap();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.sized(300).unwrap(), content.as_slice());
            prop_assert!(reader.is_at_end());
        }
    }
}
