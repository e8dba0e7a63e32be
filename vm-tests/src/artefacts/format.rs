//! Formats of root file systems: how to make an image from a tree of files without a mount, and the mount
//! options in the measured configuration.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::artefacts::cache::Cache;
use crate::artefacts::suite::Suite;
use crate::artefacts::tree::{self, Tree};

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `mount` finds out by itself, with its default options.
    Ext4,
    /// With mount options.
    Xfs,
    /// With the root in a subvolume that is not the default one.
    Btrfs,
}

impl Format {
    /// All, in no order.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// The name that the kernel has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The member `root` of our configuration.
    pub fn mount(self) -> Value {
        match self {
            Self::Ext4 => json!({}),
            Self::Xfs => json!({"fstype": "xfs", "options": "rw,noatime,logbsize=64k"}),
            Self::Btrfs => json!({"fstype": "btrfs", "options": "rw,noatime,subvol=@root"}),
        }
    }

    /// Makes an image of `tree`, which may be changed by it.
    ///
    /// # Errors
    /// When one of the tools fails.
    pub fn make(self, cache: &Cache, tools: &Tree, tree: &Path, image: &Path) -> Result<()> {
        let script = match self {
            Self::Ext4 => EXT4,
            Self::Xfs => XFS,
            Self::Btrfs => BTRFS,
        };
        let disks = disk_tools(cache)?;
        let by = if self == Self::Ext4 { tools } else { &disks };
        let args = ["-c", script, "sh"].map(OsString::from);
        by.run("sh", args.into_iter().chain([tree.into(), image.into()])).map(drop)
    }

    /// What else decides an image's content.
    pub fn recipe(self) -> &'static str {
        match self {
            Self::Ext4 => EXT4,
            Self::Xfs => XFS,
            Self::Btrfs => BTRFS,
        }
    }
}

/// Tools for disks that only some of the tests need.
///
/// # Errors
/// When mmdebstrap fails.
pub fn disk_tools(cache: &Cache) -> Result<Tree> {
    let artefact = tree::debian(cache, "disk-tools", Suite::Trixie, DISK_TOOLS)?;
    Ok(Tree::new(&artefact.path, cache.root()))
}

const DISK_TOOLS: &[&str] = &["btrfs-progs", "fdisk", "python3-minimal", "xfsprogs"];

/// Arguments of all: the tree, the image.
const EXT4: &str = r#"set -e
mke2fs -q -t ext4 -b 4096 -L root -d "$1" "$2" 384M
"#;
const XFS: &str = r#"set -e
xfs_protofile "$1" > "$2.proto"
truncate --size=384M "$2"
mkfs.xfs -q -L root -s size=4096 -p "$2.proto" "$2"
rm "$2.proto"
"#;
const BTRFS: &str = r#"set -e
mkdir "$1.above"
mv "$1" "$1.above/@root"
truncate --size=384M "$2"
mkfs.btrfs -q -L root --rootdir "$1.above" --subvol rw:@root "$2"
mv "$1.above/@root" "$1"
rmdir "$1.above"
"#;
