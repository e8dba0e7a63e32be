//! What an unlocker adds to an initramfs, in bytes.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::artefacts::initramfs::Initramfs;
use crate::artefacts::tree::Tree;

/// What an image has more than another one, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    /// The image as it lies on the disk.
    pub compressed: u64,
    /// Its files.
    pub unpacked: u64,
    /// Its files without kernel modules.
    pub userspace: u64,
    /// Those, compressed by themselves.
    pub userspace_compressed: u64,
    /// Its kernel modules, as they are (they may be compressed already).
    pub modules: u64,
}

impl Growth {
    /// Measures `image` and what it has more than `base`. The guest's own dracut unpacks them, as only it
    /// knows how its images are packed.
    ///
    /// # Errors
    /// When the images cannot be unpacked.
    pub fn between(tools: &Tree, base: &Initramfs, image: &Initramfs) -> Result<Self> {
        let scratch = image.artefact().path.with_extension("growth");
        let script = |script: &str| {
            let args = [base.initrd(), image.initrd(), scratch.clone()];
            let words = ["-c", script, "sh"].map(OsString::from);
            words.into_iter().chain(args.map(PathBuf::into_os_string))
        };
        image.guest().run("sh", script(UNPACK))?;
        let text = tools.run("sh", script(GROWTH))?;
        fs::remove_dir_all(scratch)?;
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [compressed, unpacked, userspace, userspace_compressed, modules] = numbers.as_slice() else {
            bail!("Not five sizes: {text}");
        };
        Ok(Self {
            compressed: compressed.saturating_sub(base.initrd().metadata()?.len()),
            unpacked: *unpacked,
            userspace: *userspace,
            userspace_compressed: *userspace_compressed,
            modules: *modules,
        })
    }
}

/// Arguments: the base image, the other image, a scratch directory.
const UNPACK: &str = r#"set -e
rm -rf "$3"; mkdir -p "$3/base" "$3/image"
cd "$3/base"; lsinitrd --unpack "$1"
cd "$3/image"; lsinitrd --unpack "$2"
"#;

/// The same arguments. Prints the size of the other image, then of what only it has: files, files without
/// modules, those compressed, modules.
const GROWTH: &str = r#"set -e
image=$2 scratch=$3
cd "$scratch/image"
find . -type f | while read -r file; do
    cmp -s "$file" "../base/$file" || echo "$file"
done | sort > ../more
grep '/lib/modules/' ../more > ../modules || :
grep -v '/lib/modules/' ../more > ../userspace || :
total() { tr '\n' '\0' < "$1" | du --apparent-size --block-size=1 --files0-from=- -c | tail -1 | cut -f1; }
stat -c %s "$image"
total ../more
total ../userspace
cpio --quiet -o -H newc < ../userspace | zstd -15 -c | wc -c
total ../modules
"#;
