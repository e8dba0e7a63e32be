//! The guest's initramfs, made by dracut in the guest's own tree.
//!
//! In: the guest tree, our dracut module and executable, and (in some images) the test's probe
//! module. Out: an initrd image and its size. The image that is shipped has no probe in it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{Artefact, Cache, Key};
use crate::format::Format;
use crate::owner::{Owner, Trust};
use crate::pki::Pki;
use crate::tree::{Tree, output_of};

/// What unlocks the root volume in this image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlocker {
    /// Nothing: the base that sizes are compared with.
    None,
    /// Our dracut module.
    CvmUnlock,
    /// systemd-cryptsetup with its TPM support, as dracut installs it.
    Systemd,
}

/// Which image to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// What unlocks the root volume.
    pub unlocker: Unlocker,
    /// Whether the probe runs scripts of the test before and after the unlocker.
    pub probe: bool,
    /// Whom our configuration trusts.
    pub trust: Trust,
    /// What our configuration says about the root's file system.
    pub format: Format,
    /// How the image comes by a network when it wants one.
    pub network: Network,
}

/// How an image comes by a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// systemd-networkd, by what the network tells.
    Automatic,
    /// systemd-networkd, with an address, a router and a name server from a file of the administrator's.
    Static,
    /// NetworkManager, in a distribution without systemd-networkd.
    NetworkManager,
}

/// The files that are under test.
#[derive(Debug, Clone)]
pub struct Product {
    /// The static executable.
    pub executable: PathBuf,
    /// The same with the test double's kind of evidence, which proves nothing.
    pub test_double: PathBuf,
    /// The directory `dracut-module/50cvm-unlock`.
    pub dracut_module: PathBuf,
    /// Who owns the guests.
    pub owner: Owner,
    /// Whom their configurations recognise key brokers by.
    pub pki: Pki,
}

impl Product {
    /// The executable for an image that trusts so.
    fn executable(&self, trust: Trust) -> Result<&Path> {
        let (executable, how) = match trust {
            Trust::Owner | Trust::Anybody | Trust::Brokers => (&self.executable, "cargo build --release"),
            Trust::BrokersAlone => (&self.test_double, "vm-tests/test-double"),
        };
        ensure!(executable.exists(), "No executable at {}: {how}", executable.display());
        Ok(executable)
    }
}

impl Network {
    /// Changes the guest's tree before dracut runs in it.
    fn prepare(self, tree: &Path) -> Result<()> {
        match self {
            Self::Automatic => {}
            Self::Static => {
                let directory = tree.join("etc/cvm-unlock/network");
                fs::create_dir_all(&directory)?;
                fs::write(directory.join("10-static.network"), STATIC)?;
            }
            Self::NetworkManager => {
                for file in NETWORKD {
                    let path = tree.join(file);
                    fs::remove_file(&path).with_context(|| format!("Removing {}", path.display()))?;
                }
            }
        }
        Ok(())
    }
}

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

/// A kernel and the initrd made for it.
#[derive(Debug, Clone)]
pub struct Initramfs {
    artefact: Artefact,
    guest: Tree,
}

impl Initramfs {
    /// Builds the image of a recipe.
    ///
    /// # Errors
    /// When the product is not there or dracut fails.
    pub fn new(cache: &Cache, guest: &Artefact, product: &Product, recipe: Recipe) -> Result<Self> {
        let probe_module = guest_file("51cvm-probe");
        let mut key =
            Key::of(format!("initramfs 1 {recipe:?}")).artefact(guest).and(dracut_args(recipe).join(" "));
        if guest.file(STUB).exists() {
            key = key.and("stub");
        }
        if recipe.unlocker == Unlocker::CvmUnlock {
            key = key.file(product.executable(recipe.trust)?)?.file(&product.dracut_module)?;
            key = key.file(&product.owner.configuration(recipe.trust, recipe.format))?;
        }
        if recipe.probe {
            key = key.file(&probe_module)?;
        }
        match recipe.network {
            Network::Automatic => {}
            Network::Static => key = key.and(STATIC),
            Network::NetworkManager => key = key.and(NETWORKD.join(" ")),
        }
        let artefact = cache.artefact("initramfs", key, |path| {
            let tree = stage(guest, path)?;
            recipe.network.prepare(&tree)?;
            if recipe.unlocker == Unlocker::CvmUnlock {
                copy(product.executable(recipe.trust)?, &tree.join("usr/bin/cvm-unlock"))?;
                copy(&product.dracut_module, &tree.join(MODULES).join("50cvm-unlock"))?;
                fs::create_dir_all(tree.join("etc/cvm-unlock"))?;
                copy(
                    &product.owner.configuration(recipe.trust, recipe.format),
                    &tree.join("etc/cvm-unlock/config.json"),
                )?;
            }
            if recipe.probe {
                copy(&probe_module, &tree.join(MODULES).join("51cvm-probe"))?;
            }
            build(&Tree::new(&tree, cache.root()), path, recipe)?;
            fs::remove_dir_all(&tree).context("Removing the staged tree")
        })?;
        Ok(Self { artefact, guest: Tree::new(&guest.path, cache.root()) })
    }

    /// The initrd.
    pub fn initrd(&self) -> PathBuf {
        self.artefact.file("initrd.img")
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.artefact.file("vmlinuz")
    }

    /// What carries kernel and initrd through the firmware: the guest's own systemd-stub, if it has one.
    pub fn stub(&self) -> Option<PathBuf> {
        let stub = self.artefact.file("stub.efi");
        stub.exists().then_some(stub)
    }

    /// The distribution that it was made in.
    pub fn guest(&self) -> &Tree {
        &self.guest
    }

    /// The kernel's version.
    ///
    /// # Errors
    /// When the artefact is damaged.
    pub fn version(&self) -> Result<String> {
        Ok(fs::read_to_string(self.artefact.file("version"))?)
    }

    /// Sizes of the image, and of what it has more than `base`. Only the guest's own dracut knows how its
    /// images are packed.
    ///
    /// # Errors
    /// When the images cannot be unpacked.
    pub fn growth(&self, tools: &Tree, base: &Self) -> Result<Growth> {
        let scratch = self.artefact.path.with_extension("growth");
        let script = |script: &str| {
            let args = [base.initrd(), self.initrd(), scratch.clone()];
            let words = ["-c", script, "sh"].map(std::ffi::OsString::from);
            words.into_iter().chain(args.map(PathBuf::into_os_string))
        };
        self.guest.run("sh", script(UNPACK))?;
        let text = tools.run("sh", script(GROWTH))?;
        fs::remove_dir_all(scratch)?;
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [compressed, unpacked, userspace, userspace_compressed, modules] = numbers.as_slice() else {
            bail!("Not five sizes: {text}");
        };
        Ok(Growth {
            compressed: compressed.saturating_sub(base.initrd().metadata()?.len()),
            unpacked: *unpacked,
            userspace: *userspace,
            userspace_compressed: *userspace_compressed,
            modules: *modules,
        })
    }

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.artefact
    }
}

/// A file of the harness that goes into the guest.
pub fn guest_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest").join(name)
}

/// Copies the guest tree, so that the cached one stays as it is.
///
/// # Errors
/// When the copy fails.
pub fn stage(guest: &Artefact, path: &Path) -> Result<PathBuf> {
    let tree = path.join("tree");
    copy(&guest.path, &tree)?;
    Ok(tree)
}

fn build(tree: &Tree, path: &Path, recipe: Recipe) -> Result<()> {
    let version = kernel_version(tree.root())?;
    let initrd = path.join("initrd.img");
    tree.run(
        "dracut",
        dracut_args(recipe).into_iter().chain([
            "--kver".into(),
            version.clone(),
            initrd.display().to_string(),
        ]),
    )?;
    fs::write(path.join("modules"), tree.run("lsinitrd", ["--mod".as_ref(), initrd.as_os_str()])?)?;
    copy(&tree.root().join(format!("boot/vmlinuz-{version}")), &path.join("vmlinuz"))?;
    let stub = tree.root().join(STUB);
    if stub.exists() {
        copy(&stub, &path.join("stub.efi"))?;
    }
    fs::write(path.join("version"), version)?;
    Ok(())
}

fn dracut_args(recipe: Recipe) -> Vec<String> {
    let mut modules = BASE_MODULES.to_vec();
    match recipe.unlocker {
        Unlocker::None => {}
        Unlocker::CvmUnlock => modules.push("cvm-unlock"),
        Unlocker::Systemd => modules.extend(SYSTEMD_MODULES),
    }
    if recipe.probe {
        modules.push("cvm-probe");
    }
    ["--quiet", "--force", "--no-hostonly", "--zstd", "--modules", &modules.join(" "), "--drivers", DRIVERS]
        .map(str::to_owned)
        .to_vec()
}

fn kernel_version(tree: &Path) -> Result<String> {
    let mut versions: Vec<_> = fs::read_dir(tree.join("usr/lib/modules"))?.collect::<Result<_, _>>()?;
    let version = versions.pop().context("The guest tree has no kernel")?;
    Ok(version.file_name().to_string_lossy().into_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    output_of(
        Command::new("cp").args(["--archive", "--no-target-directory", "--reflink=auto"]).args([from, to]),
        "cp",
    )?;
    Ok(())
}

const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const MODULES: &str = "usr/lib/dracut/modules.d";
/// A plain systemd initrd; the same for every unlocker.
const BASE_MODULES: &[&str] =
    &["base", "systemd", "systemd-initrd", "kernel-modules", "rootfs-block", "fs-lib", "udev-rules"];
/// What unlocks by the TPM without us: one calls for the other.
const SYSTEMD_MODULES: &[&str] = &["crypt", "dm", "tpm2-tss", "systemd-cryptsetup", "systemd-pcrphase"];
/// Only what the test machine has; all drivers would cost seconds at each boot.
const DRIVERS: &str = "virtio_pci virtio_blk virtio_net virtio_rng ext4 efivarfs";

/// What makes a distribution one without systemd-networkd.
const NETWORKD: [&str; 2] =
    ["usr/lib/systemd/systemd-networkd", "usr/lib/systemd/system/systemd-networkd.service"];

/// Another address than QEMU's router gives out.
pub const STATIC_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);
const STATIC: &str = "[Match]
Type=ether

[Network]
Address=10.0.2.77/24
Gateway=10.0.2.2
DNS=10.0.2.3
DHCP=no
LinkLocalAddressing=no
IPv6AcceptRA=no
";

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
