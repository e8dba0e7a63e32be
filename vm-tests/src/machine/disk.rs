//! Disk images: a GPT with an EFI system partition and a partition of the root type, and how the machine sees
//! them. No loop device and no mount: partitions are written as files and copied into place.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::artefacts::enrolled::Enrolled;
use crate::artefacts::filesystem::Filesystem;
use crate::artefacts::forged::Forged;
use crate::artefacts::tree::Tree;
use crate::artefacts::uki::Uki;

/// What the partition of the root type holds.
#[derive(Debug, Clone)]
pub enum Root {
    /// An encrypted volume with a token.
    Encrypted(Enrolled),
    /// What a hostile host made of an encrypted volume.
    Forged(Forged),
    /// A file system as it is: what an attacker would put there.
    Plain(Filesystem),
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk: `/dev/vda`.
    Virtio,
    /// A virtio SCSI controller: `/dev/sda`.
    Scsi,
    /// A namespace of an NVMe controller: `/dev/nvme0n1`.
    Nvme,
}

/// What a disk looks like.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// How it is attached.
    pub bus: Bus,
    /// Logical sectors in bytes: 512 or 4096.
    pub sector: u32,
    /// MiB behind the backup of the partition table, as on a disk that was enlarged.
    pub enlarged: u32,
    /// The unique GUID of the EFI system partition.
    pub esp: &'static str,
}

impl Default for Layout {
    fn default() -> Self {
        Self { bus: Bus::Virtio, sector: 512, enlarged: 0, esp: "11111111-1111-4111-8111-111111111111" }
    }
}

/// An image in a run's directory.
#[derive(Debug, Clone)]
pub struct Disk {
    path: PathBuf,
    layout: Layout,
}

impl Disk {
    /// Writes the image `name` into `run`; without a UKI it has no EFI system partition. `disk_tools` has
    /// sfdisk.
    ///
    /// # Errors
    /// When one of the tools fails.
    pub fn assemble(
        (tools, disk_tools): (&Tree, &Tree),
        (run, name): (&Path, &str),
        uki: Option<&Uki>,
        root: &Root,
        layout: Layout,
    ) -> Result<Self> {
        let path = run.join(name);
        let (body, header) = match root {
            Root::Encrypted(enrolled) => (enrolled.volume.path(), enrolled.header().into_os_string()),
            Root::Forged(forged) => (forged.body(), forged.header().into_os_string()),
            Root::Plain(filesystem) => (filesystem.path(), OsString::new()),
        };
        let uki = uki.map(Uki::path).unwrap_or_default();
        let words = |script: &str| ["-c", script, "sh"].map(OsString::from).into_iter();
        let esp = if uki.as_os_str().is_empty() { "" } else { layout.esp };
        let table = [layout.sector.to_string(), esp.to_owned()].map(OsString::from);
        disk_tools.run("sh", words(TABLE).chain([path.clone().into(), body.clone().into()]).chain(table))?;
        let more = [layout.sector, layout.enlarged].map(|number| number.to_string().into());
        let files = [path.clone().into(), uki.into(), body.into(), header];
        tools.run("sh", words(FILL).chain(files).chain(more))?;
        Ok(Self { path, layout })
    }

    /// The image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it looks like.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Deletes the image, after a run that went well.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn discard(self) -> Result<()> {
        Ok(fs::remove_file(self.path)?)
    }
}

/// Arguments: image, root partition, sector size, GUID of the EFI system partition or nothing. sfdisk reads
/// positions and sizes with a unit as they are, whatever the sector size.
const TABLE: &str = r#"set -e
disk=$1 size=$(($(stat -c %s "$2") / 1048576)) esp=$4
truncate --size=$((size + 100))M "$disk"
{
    echo label: gpt
    [ -z "$esp" ] || echo "1: start=1MiB, size=96MiB, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, uuid=$esp, name=esp"
    echo "2: start=98MiB, size=${size}MiB, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name=root"
} | sfdisk --quiet --sector-size="$3" "$disk"
"#;

/// Arguments: image, UKI or nothing, root partition, header to lay over its start or nothing, sector size,
/// MiB to enlarge the image by.
const FILL: &str = r#"set -e
disk=$1 uki=$2 root=$3 header=$4 sector=$5 more=$6
if [ -n "$uki" ]; then
    truncate --size=96M "$disk.esp"
    # With sectors of 4096 bytes, FAT32 needs more clusters than 96 MiB have.
    if [ "$sector" = 512 ]; then fat=32; else fat=16; fi
    mkfs.vfat -F $fat -S "$sector" "$disk.esp" > /dev/null
    mmd -i "$disk.esp" ::/EFI ::/EFI/BOOT
    mcopy -i "$disk.esp" "$uki" ::/EFI/BOOT/BOOTX64.EFI
    dd if="$disk.esp" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
    rm "$disk.esp"
fi
dd if="$root" of="$disk" bs=1M seek=98 conv=notrunc,sparse status=none
[ -z "$header" ] || dd if="$header" of="$disk" bs=1M seek=98 conv=notrunc status=none
truncate --size=+${more}M "$disk"
"#;
