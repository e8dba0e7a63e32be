//! Random access to untrusted bytes: a block device, an image file, or memory in tests.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Random access to a fixed number of bytes.
pub trait Source {
    /// Fills `buffer` from `offset` (bytes from the start).
    ///
    /// # Errors
    /// The operating system's, or `UnexpectedEof` beyond the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Source for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| end())?;
        let stop = start.checked_add(buffer.len()).ok_or_else(end)?;
        buffer.copy_from_slice(self.get(start..stop).ok_or_else(end)?);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_at(buffer, offset)
    }
}

/// A window of another source: a partition inside a disk image.
#[derive(Clone, Copy)]
pub struct Window<'a, S: Source + ?Sized> {
    inner: &'a S,
    /// Bytes from the start of `inner`.
    start: u64,
    /// Bytes.
    length: u64,
}

impl<'a, S: Source + ?Sized> Window<'a, S> {
    /// `length` bytes of `inner` from `start`.
    pub fn new(inner: &'a S, start: u64, length: u64) -> Self {
        Self { inner, start, length }
    }
}

impl<S: Source + ?Sized> Source for Window<'_, S> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let size = u64::try_from(buffer.len()).map_err(|_| end())?;
        if offset.checked_add(size).is_none_or(|stop| stop > self.length) {
            return Err(end());
        }
        let absolute = self.start.checked_add(offset).ok_or_else(end)?;
        self.inner.read_at(buffer, absolute)
    }
}
