//! A disk that lies: an NBD server behind QEMU's disk, which counts how often the guest reads each sector,
//! and later answers with other bytes than before.
//!
//! Writes stay in memory. Only what QEMU asks for is implemented (the NBD protocol's fixed newstyle handshake
//! without options, simple replies).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::spawn;

use anyhow::{Context, Result, bail, ensure};

/// A server on a socket, for as many machines as come one after the other.
#[derive(Debug, Clone)]
pub struct Nbd {
    socket: PathBuf,
    disk: Arc<Mutex<Liar>>,
}

/// What the disk says.
#[derive(Debug)]
struct Liar {
    image: File,
    size: u64,
    /// Sectors that were written.
    written: BTreeMap<u64, [u8; SECTOR]>,
    /// Sectors to lie about, with the lie.
    lies: BTreeMap<u64, [u8; SECTOR]>,
    mood: Mood,
    /// How often each sector was read while the server counted.
    reads: BTreeMap<u64, u32>,
    /// Lies that were told.
    told: u32,
}

/// What the disk does beside answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Nothing.
    Indifferent,
    /// It counts.
    Counting,
    /// It counts no longer, and lies.
    Lying,
}

impl Nbd {
    /// Serves `image` on `socket`. `lie` is what it will say when it lies: bytes from the start of the image,
    /// the bytes.
    ///
    /// # Errors
    /// When the socket or the image is unusable.
    pub fn serve(image: &Path, socket: PathBuf, lie: (u64, &[u8])) -> Result<Self> {
        let image = File::open(image)?;
        let size = image.metadata()?.len();
        let (start, bytes) = lie;
        let lies = (start / SECTOR_BYTES..).zip(bytes.as_chunks().0.iter().copied()).collect();
        let (written, reads) = (BTreeMap::new(), BTreeMap::new());
        let liar = Liar { image, size, written, lies, mood: Mood::Indifferent, reads, told: 0 };
        let disk = Arc::new(Mutex::new(liar));
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("Binding {}", socket.display()))?;
        let served = Arc::clone(&disk);
        spawn(move || {
            for stream in listener.incoming().flatten() {
                // A machine that is switched off closes its connection in the middle of a request.
                let _closed = serve(stream, &served);
            }
        });
        Ok(Self { socket, disk })
    }

    /// Where QEMU connects to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Begins to count, unless it did before.
    pub fn count(&self) {
        let mut disk = self.lock();
        if disk.mood == Mood::Indifferent {
            disk.mood = Mood::Counting;
        }
    }

    /// Begins to lie, and counts no longer.
    pub fn lie(&self) {
        self.lock().mood = Mood::Lying;
    }

    /// Forgets everything that a machine did.
    pub fn reset(&self) {
        let mut disk = self.lock();
        disk.mood = Mood::Indifferent;
        disk.told = 0;
        disk.reads.clear();
        disk.written.clear();
    }

    /// How often each sector of 512 bytes in `range` (bytes from the start of the image) was read while the
    /// server counted; those that were never read are not in it.
    pub fn reads(&self, range: &Range<u64>) -> BTreeMap<u64, u32> {
        let sectors = range.start / SECTOR_BYTES..range.end / SECTOR_BYTES;
        self.lock().reads.range(sectors).map(|(sector, count)| (*sector, *count)).collect()
    }

    /// How many sectors were answered with a lie.
    pub fn lies_told(&self) -> u32 {
        self.lock().told
    }

    fn lock(&self) -> MutexGuard<'_, Liar> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Liar {
    fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length)?];
        self.image.read_exact_at(&mut bytes, offset)?;
        for (sector, chunk) in (offset / SECTOR_BYTES..).zip(bytes.chunks_mut(SECTOR)) {
            if self.mood == Mood::Counting {
                *self.reads.entry(sector).or_default() += 1;
            }
            if let Some(written) = self.written.get(&sector) {
                chunk.copy_from_slice(written);
            } else if self.mood == Mood::Lying
                && let Some(lie) = self.lies.get(&sector)
            {
                chunk.copy_from_slice(lie);
                self.told += 1;
            }
        }
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (sector, chunk) in (offset / SECTOR_BYTES..).zip(bytes.as_chunks::<SECTOR>().0) {
            self.written.insert(sector, *chunk);
        }
    }
}

/// One client, to its end.
fn serve(mut stream: UnixStream, disk: &Mutex<Liar>) -> Result<()> {
    let lock = || disk.lock().unwrap_or_else(PoisonError::into_inner);
    if !shake_hands(&mut stream, lock().size)? {
        return Ok(());
    }
    loop {
        ensure!(number::<4>(&mut stream)? == REQUEST_MAGIC, "Not a request");
        let (_flags, kind, cookie) =
            (number::<2>(&mut stream)?, number::<2>(&mut stream)?, number::<8>(&mut stream)?);
        let (offset, length) = (number::<8>(&mut stream)?, u32::try_from(number::<4>(&mut stream)?)?);
        ensure!(offset % SECTOR_BYTES == 0 && length % 512 == 0, "A request that is not aligned");
        let mut reply = [REPLY_MAGIC.to_be_bytes().as_slice(), &[0; 4], &cookie.to_be_bytes()].concat();
        match kind {
            READ => reply.append(&mut lock().read(offset, length)?),
            WRITE => {
                let mut bytes = vec![0; usize::try_from(length)?];
                stream.read_exact(&mut bytes)?;
                lock().write(offset, &bytes);
            }
            DISCONNECT => return Ok(()),
            FLUSH => {}
            _ => bail!("Request {kind} is not implemented"),
        }
        stream.write_all(&reply)?;
    }
}

/// The handshake; `false` if the client went away.
fn shake_hands(stream: &mut UnixStream, size: u64) -> Result<bool> {
    stream.write_all(&[b"NBDMAGICIHAVEOPT".as_slice(), &FIXED_NEWSTYLE.to_be_bytes()].concat())?;
    let _flags = number::<4>(stream)?;
    loop {
        ensure!(stream_magic(stream)? == *b"IHAVEOPT", "Not an option");
        let (option, length) = (u32::try_from(number::<4>(stream)?)?, number::<4>(stream)?);
        let mut data = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut data)?;
        let mut reply = |kind: u32, data: &[u8]| {
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let head = [OPTION_REPLY_MAGIC.to_be_bytes().as_slice(), &option.to_be_bytes()].concat();
            stream.write_all(&[&head, &kind.to_be_bytes()[..], &length.to_be_bytes(), data].concat())
        };
        match option {
            GO => {
                // NBD_INFO_EXPORT: size, and the flags that there are flags and flushes.
                let export = [&[0; 2], size.to_be_bytes().as_slice(), &[0, 0b101]].concat();
                reply(REPLY_INFO, &export)?;
                reply(REPLY_ACK, &[])?;
                return Ok(true);
            }
            ABORT => {
                reply(REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => reply(REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn stream_magic(stream: &mut UnixStream) -> Result<[u8; 8]> {
    let mut magic = [0; 8];
    stream.read_exact(&mut magic)?;
    Ok(magic)
}

/// A big-endian number of `N` bytes.
fn number<const N: usize>(stream: &mut UnixStream) -> Result<u64> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

// The NBD protocol (doc/proto.md of the NBD project).
const FIXED_NEWSTYLE: u16 = 0b11;
const REQUEST_MAGIC: u64 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const ABORT: u32 = 2;
const GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;
const READ: u64 = 0;
const WRITE: u64 = 1;
const DISCONNECT: u64 = 2;
const FLUSH: u64 = 3;
const SECTOR: usize = 512;
const SECTOR_BYTES: u64 = 512;
