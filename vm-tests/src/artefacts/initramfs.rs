//! The guest's initramfs, made by dracut in a copy of the guest's tree from our dracut module and executable,
//! or from systemd's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::product::Product;
use crate::artefacts::recipe::Recipe;
use crate::artefacts::tree::{Tree, copy, stage};

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
        let files = recipe.files(product)?;
        let key = Key::of(format!("initramfs 1 {}", recipe.name()));
        let mut key = key.artefact(guest).and(dracut_args(recipe).join(" "));
        if guest.file(STUB).exists() {
            key = key.and("stub");
        }
        for (from, _) in &files {
            key = key.file(from)?;
        }
        key = recipe.network.mark(key);
        let artefact = cache.artefact("initramfs", key, |path| {
            let tree = stage(guest, path)?;
            recipe.network.prepare(&tree)?;
            for (from, to) in &files {
                let to = tree.join(to);
                fs::create_dir_all(to.parent().unwrap_or(&tree))?;
                copy(from, &to)?;
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

    /// The guest's own systemd-stub, if it has one.
    pub fn stub(&self) -> Option<PathBuf> {
        let stub = self.artefact.file("stub.efi");
        stub.exists().then_some(stub)
    }

    /// The tree of the distribution that it was made in.
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

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.artefact
    }
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
    let modules = recipe.modules().join(" ");
    ["--quiet", "--force", "--no-hostonly", "--zstd", "--modules", &modules, "--drivers", DRIVERS]
        .map(str::to_owned)
        .to_vec()
}

fn kernel_version(tree: &Path) -> Result<String> {
    let mut versions: Vec<_> = fs::read_dir(tree.join("usr/lib/modules"))?.collect::<Result<_, _>>()?;
    let version = versions.pop().context("The guest tree has no kernel")?;
    Ok(version.file_name().to_string_lossy().into_owned())
}

const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// Only what the test machine has; all drivers would cost seconds at each boot.
const DRIVERS: &str = "virtio_pci virtio_blk virtio_net virtio_rng ext4 efivarfs";
