//! Disk images: a GPT with an EFI system partition and a partition of the root type.
//!
//! In: a UKI and what the root partition holds. Out: an image file for one run. No loop device,
//! no mount: partitions are written as files and copied into place.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::enrolled::Enrolled;
use crate::forged::Forged;
use crate::tree::Tree;
use crate::uki::Uki;
use crate::volume::Filesystem;

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

/// An image in a run's directory.
#[derive(Debug, Clone)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Writes the image `name` into `run`; without a UKI it has no EFI system partition.
    ///
    /// # Errors
    /// When one of the tools fails.
    pub fn assemble(tools: &Tree, run: &Path, name: &str, uki: Option<&Uki>, root: &Root) -> Result<Self> {
        let path = run.join(name);
        let (body, header) = match root {
            Root::Encrypted(enrolled) => (enrolled.volume.path(), enrolled.header().into_os_string()),
            Root::Forged(forged) => (forged.body(), forged.header().into_os_string()),
            Root::Plain(filesystem) => (filesystem.path(), OsString::new()),
        };
        let uki = uki.map(Uki::path).unwrap_or_default();
        let mut args: Vec<OsString> = ["-c", ASSEMBLE, "sh"].map(OsString::from).to_vec();
        args.extend([path.clone().into(), uki.into(), body.into(), header]);
        tools.run("sh", args)?;
        Ok(Self { path })
    }

    /// The image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Deletes the image, after a run that went well.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn discard(self) -> Result<()> {
        Ok(fs::remove_file(self.path)?)
    }
}

/// Arguments: image, UKI or nothing, root partition, header to lay over its start or nothing.
const ASSEMBLE: &str = r#"set -e
disk=$1 uki=$2 root=$3 header=$4
size=$(($(stat -c %s "$root") / 1048576))
truncate --size=$((size + 100))M "$disk"
set -- -n 2:98M:+${size}M -t 2:4f68bce3-e8cd-4db1-96e7-fbcaf984b709 -c 2:root
[ -z "$uki" ] || set -- -n 1:1M:+96M -t 1:c12a7328-f81f-11d2-ba4b-00a0c93ec93b -c 1:esp "$@"
sgdisk -a 2048 "$@" "$disk" > /dev/null
if [ -n "$uki" ]; then
    truncate --size=96M "$disk.esp"
    mkfs.vfat -F32 "$disk.esp" > /dev/null
    mmd -i "$disk.esp" ::/EFI ::/EFI/BOOT
    mcopy -i "$disk.esp" "$uki" ::/EFI/BOOT/BOOTX64.EFI
    dd if="$disk.esp" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
    rm "$disk.esp"
fi
dd if="$root" of="$disk" bs=1M seek=98 conv=notrunc,sparse status=none
[ -z "$header" ] || dd if="$header" of="$disk" bs=1M seek=98 conv=notrunc status=none
"#;
