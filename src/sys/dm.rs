//! Reads a live device-mapper table: the one dm ioctl that we issue ourselves.
//!
//! The kernel's answer is trusted, but parsed with bounds all the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

/// One target of a live table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// First sector (512 bytes) of the mapped device that this target maps.
    pub start: u64,
    /// Sectors (512 bytes).
    pub length: u64,
    /// Target type, such as `crypt`.
    pub kind: String,
    /// The target's parameters as `dmsetup table --showkeys` prints them. May hold a key: cleared on drop.
    pub parameters: Zeroizing<String>,
}

/// A live table and its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Minor number of the mapped device (`/dev/dm-MINOR`).
    pub minor: u32,
    /// The DM UUID.
    pub uuid: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The targets in order.
    pub targets: Vec<Target>,
}

/// The live table of the mapped device `name`, through the control node `control`.
///
/// # Errors
/// The ioctl's, or `InvalidData` for a malformed answer.
pub fn table(control: &Path, name: &str) -> io::Result<Table> {
    let control: File = OpenOptions::new().read(true).write(true).open(control)?;
    let mut request = Box::new(Request::new(name)?);
    // SAFETY: the kernel reads and writes at most `data_size` bytes from the start of the header
    // (include/uapi/linux/dm-ioctl.h). `Request` is `repr(C)`, begins with that header, and its own size is what
    // `Request::new` put into `data_size`; the pointer is derived from the whole object, which outlives the call.
    let done =
        unsafe { dm_table_status(control.as_raw_fd(), std::ptr::from_mut(&mut *request).cast::<Header>()) };
    done?;
    let parsed = request.table();
    request.payload.zeroize();
    parsed
}

nix::ioctl_readwrite!(
    /// `DM_TABLE_STATUS`.
    dm_table_status,
    DM_IOCTL,
    DM_TABLE_STATUS_CMD,
    Header
);

/// `struct dm_ioctl` of include/uapi/linux/dm-ioctl.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

#[repr(C)]
struct Request {
    header: Header,
    payload: [u8; PAYLOAD],
}

impl Request {
    fn new(name: &str) -> io::Result<Self> {
        let mut field = [0; 128];
        let text = field.get_mut(..name.len()).filter(|text| text.len() < 128).ok_or_else(bad)?;
        text.copy_from_slice(name.as_bytes());
        let data_size = u32::try_from(size_of::<Self>()).map_err(|_| bad())?;
        let data_start = u32::try_from(size_of::<Header>()).map_err(|_| bad())?;
        let header = Header {
            version: [4, 0, 0],
            data_size,
            data_start,
            target_count: 0,
            open_count: 0,
            flags: DM_STATUS_TABLE,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: field,
            uuid: [0; 129],
            data: [0; 7],
        };
        Ok(Self { header, payload: [0; PAYLOAD] })
    }

    fn table(&self) -> io::Result<Table> {
        if self.header.flags & DM_BUFFER_FULL != 0 {
            return Err(bad());
        }
        let start = usize::try_from(self.header.data_start).map_err(|_| bad())?;
        let start = start.checked_sub(size_of::<Header>()).ok_or_else(bad)?;
        let payload = self.payload.get(start..).ok_or_else(bad)?;
        Ok(Table {
            // Linux's huge_encode_dev: low 8 bits of the minor, 12 bits of the major, the minor's other 12 bits.
            minor: u32::try_from((self.header.dev & 0xff) | ((self.header.dev >> 12) & 0xfff00))
                .map_err(|_| bad())?,
            uuid: text(&self.header.uuid)?,
            read_only: self.header.flags & DM_READONLY != 0,
            targets: parse_targets(payload, self.header.target_count)?,
        })
    }
}

/// Parses `count` target descriptions: each a `struct dm_target_spec` (40 bytes), then its parameters as a C
/// string. `next` is the offset of the following description from the start of the payload.
fn parse_targets(payload: &[u8], count: u32) -> io::Result<Vec<Target>> {
    let mut targets = Vec::new();
    let mut at = 0;
    for _ in 0..count.min(MAX_TARGETS) {
        let spec = payload.get(at..).ok_or_else(bad)?;
        let (start, spec) = spec.split_first_chunk::<8>().ok_or_else(bad)?;
        let (length, spec) = spec.split_first_chunk::<8>().ok_or_else(bad)?;
        let (_status, spec) = spec.split_first_chunk::<4>().ok_or_else(bad)?;
        let (next, spec) = spec.split_first_chunk::<4>().ok_or_else(bad)?;
        let (kind, parameters) = spec.split_first_chunk::<16>().ok_or_else(bad)?;
        targets.push(Target {
            start: u64::from_ne_bytes(*start),
            length: u64::from_ne_bytes(*length),
            kind: text(kind)?,
            parameters: Zeroizing::new(text(parameters)?),
        });
        at = usize::try_from(u32::from_ne_bytes(*next)).map_err(|_| bad())?;
    }
    Ok(targets)
}

/// The text before the first NUL.
fn text(bytes: &[u8]) -> io::Result<String> {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| bad())
}

fn bad() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

/// `DM_IOCTL`, the type byte of all device-mapper ioctls.
const DM_IOCTL: u8 = 0xfd;
/// `DM_TABLE_STATUS_CMD`.
const DM_TABLE_STATUS_CMD: u8 = 12;
/// `DM_STATUS_TABLE_FLAG`: return the table that was loaded, not the targets' status.
const DM_STATUS_TABLE: u32 = 1 << 4;
/// `DM_READONLY_FLAG`.
const DM_READONLY: u32 = 1 << 0;
/// `DM_BUFFER_FULL_FLAG`: the answer did not fit.
const DM_BUFFER_FULL: u32 = 1 << 8;
/// Room for the answer. One crypt target needs a few hundred bytes.
const PAYLOAD: usize = 8192;
/// None of our mappings has more than one target.
const MAX_TARGETS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(start: u64, length: u64, next: u32, kind: &str, parameters: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(start.to_ne_bytes());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(0_i32.to_ne_bytes());
        bytes.extend(next.to_ne_bytes());
        let mut name = [0; 16];
        name[..kind.len()].copy_from_slice(kind.as_bytes());
        bytes.extend(name);
        bytes.extend(parameters.as_bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn the_header_has_the_kernels_size() {
        assert_eq!(size_of::<Header>(), 312);
    }

    #[test]
    fn a_crypt_target_is_read_as_the_kernel_wrote_it() {
        let parameters = "aes-xts-plain64 :64:logon:cryptsetup:x-d0 0 253:2 32768 1 sector_size:4096";
        let payload = target(0, 4096, 128, "crypt", parameters);
        let [parsed] = parse_targets(&payload, 1).unwrap().try_into().unwrap();
        assert_eq!((parsed.start, parsed.length, parsed.kind.as_str()), (0, 4096, "crypt"));
        assert_eq!(parsed.parameters.as_str(), parameters);
    }

    proptest! {
        #[test]
        fn any_payload_is_a_table_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..256), count in 0_u32..10) {
            let _either = parse_targets(&payload, count);
        }
    }
}
