//! What every artefact and every machine of a run needs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::artefacts::cache::{Artefact, Cache};
use crate::artefacts::firmware::Firmware;
use crate::artefacts::owner::Owner;
use crate::artefacts::pki::Pki;
use crate::artefacts::product::Product;
use crate::artefacts::tpm::manufacture;
use crate::artefacts::tree::{self, Tree, output_of};
use crate::progress::Live;

/// The cache, the tools and the product under test. Clones share the cache.
#[derive(Debug, Clone)]
pub struct Workbench {
    /// All artefacts.
    pub cache: Cache,
    /// QEMU and the other tools.
    pub tools: Tree,
    /// Firmware and signing key.
    pub firmware: Firmware,
    /// A TPM nobody has used.
    pub factory_tpm: Artefact,
    /// The files under test.
    pub product: Product,
    /// How much of the consoles is shown while machines run.
    pub live: Live,
}

impl Workbench {
    /// Finds the product in the checkout and builds the tools that are missing. `CVM_UNLOCK_EXECUTABLE`,
    /// `CVM_UNLOCK_TEST_DOUBLE`, `CVM_UNLOCK_DRACUT_MODULE` and `CVM_UNLOCK_VM_CACHE` name other places.
    ///
    /// # Errors
    /// When we are not root, or the tools cannot be built.
    pub fn open(live: Live) -> Result<Self> {
        let uid = output_of(Command::new("id").arg("-u"), "id")?;
        ensure!(uid.trim() == "0", "Trees and their mounts need root");
        let checkout =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("The harness has no checkout")?;
        let place = |variable: &str, default: PathBuf| env::var_os(variable).map_or(default, PathBuf::from);
        let cache = Cache::open(&place("CVM_UNLOCK_VM_CACHE", checkout.join("target/vm-tests")))?;
        let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        let tools = tree::tools(&cache)?;
        let pki = Pki::new(&cache, &tools)?;
        Ok(Self {
            firmware: Firmware::new(&cache, &tools)?,
            factory_tpm: manufacture(&cache, &tools)?,
            product: Product {
                test_double: place("CVM_UNLOCK_TEST_DOUBLE", checkout.join("target/test-double/cvm-unlock")),
                executable: place(
                    "CVM_UNLOCK_EXECUTABLE",
                    checkout.join("target").join(triple).join("release/cvm-unlock"),
                ),
                owner: Owner::new(&cache, &tools, &pki)?,
                pki,
                dracut_module: place("CVM_UNLOCK_DRACUT_MODULE", checkout.join("dracut-module/50cvm-unlock")),
            },
            cache,
            tools,
            live,
        })
    }
}
