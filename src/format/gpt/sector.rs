//! The logical sector size of a disk: 512 or 4096 bytes.

/// Logical sector size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes: virtio and SCSI disks, most NVMe.
    B512,
    /// 4096 bytes: "4k native" disks.
    B4096,
}

impl SectorSize {
    /// Both, in the order to try them on an image of unknown origin.
    pub const ALL: [Self; 2] = [Self::B512, Self::B4096];

    /// The sector size of `bytes` bytes; `None` for sizes that we do not support.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|size| u64::from(size.bytes()) == bytes)
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}
