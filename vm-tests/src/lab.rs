//! The workbench: everything that a scenario can ask for, built once.
//!
//! In: the checkout's executable and dracut module. Out: images, volumes, policies, machines.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::boot::Boot;
use crate::cache::{Artefact, Cache, Key};
use crate::disk::{Disk, Root};
use crate::enrolled::{Enrolled, Enroller};
use crate::firmware::Firmware;
use crate::initramfs::{Initramfs, Product, Recipe, Unlocker};
use crate::owner::{Owner, Trust};
use crate::serial::Live;
use crate::suite::Suite;
use crate::tpm::manufacture;
use crate::tree::{self, Tree, output_of};
use crate::uki::{COMMAND_LINE, Uki};
use crate::volume::{Filesystem, Userland, Volume};
use crate::{hex, unhex};

/// Trees, keys and the product under test.
#[derive(Debug, Clone)]
pub struct Lab {
    /// All artefacts.
    pub cache: Cache,
    /// QEMU and the other tools.
    pub tools: Tree,
    /// The release that the guests come from.
    pub suite: Suite,
    /// Firmware and signing key.
    pub firmware: Firmware,
    /// A TPM nobody has used.
    pub factory_tpm: Artefact,
    /// What is tested.
    pub product: Product,
    /// How much of the consoles is shown while the machines run.
    pub live: Live,
}

impl Lab {
    /// Finds the product in the checkout and builds the trees that are missing. `CVM_UNLOCK_EXECUTABLE`,
    /// `CVM_UNLOCK_DRACUT_MODULE` and `CVM_UNLOCK_VM_CACHE` name other places.
    ///
    /// # Errors
    /// When we are not root, or a tree cannot be built.
    pub fn open() -> Result<Self> {
        let uid = output_of(Command::new("id").arg("-u"), "id")?;
        ensure!(uid.trim() == "0", "Trees and their mounts need root");
        let checkout =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("The harness has no checkout")?;
        let place = |variable: &str, default: PathBuf| env::var_os(variable).map_or(default, PathBuf::from);
        let cache = Cache::open(&place("CVM_UNLOCK_VM_CACHE", checkout.join("target/vm-tests")))?;
        let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        let tools = tree::tools(&cache)?;
        Ok(Self {
            suite: Suite::Trixie,
            firmware: Firmware::new(&cache, &tools)?,
            factory_tpm: manufacture(&cache, &tools)?,
            product: Product {
                executable: place(
                    "CVM_UNLOCK_EXECUTABLE",
                    checkout.join("target").join(triple).join("release/cvm-unlock"),
                ),
                owner: Owner::new(&cache, &tools)?,
                dracut_module: place("CVM_UNLOCK_DRACUT_MODULE", checkout.join("dracut-module/50cvm-unlock")),
            },
            cache,
            tools,
            live: Live::Quiet,
        })
    }

    /// The same workbench with guests of another release.
    #[must_use]
    pub fn of(&self, suite: Suite) -> Self {
        Self { suite, ..self.clone() }
    }

    /// The guest's distribution.
    ///
    /// # Errors
    /// When its tree cannot be built.
    pub fn guest(&self) -> Result<Artefact> {
        tree::guest(&self.cache, self.suite)
    }

    /// Commands of the guest's distribution, on the host.
    ///
    /// # Errors
    /// When its tree cannot be built.
    pub fn guest_tree(&self) -> Result<Tree> {
        Ok(Tree::new(&self.guest()?.path, self.cache.root()))
    }

    /// The initramfs with this unlocker.
    ///
    /// # Errors
    /// When dracut fails.
    pub fn initramfs(&self, unlocker: Unlocker, probe: bool) -> Result<Initramfs> {
        self.initramfs_trusting(Trust::Owner, unlocker, probe)
    }

    /// The same, trusting whomever.
    ///
    /// # Errors
    /// When dracut fails.
    pub fn initramfs_trusting(&self, trust: Trust, unlocker: Unlocker, probe: bool) -> Result<Initramfs> {
        Initramfs::new(&self.cache, &self.guest()?, &self.product, Recipe { unlocker, probe, trust })
    }

    /// The UKI that is shipped: our module, no probe.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn product_uki(&self) -> Result<Uki> {
        self.uki(Unlocker::CvmUnlock, false, COMMAND_LINE)
    }

    /// The UKI that is shipped, with the probe beside our unit.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn probed_uki(&self) -> Result<Uki> {
        self.uki(Unlocker::CvmUnlock, true, COMMAND_LINE)
    }

    /// Any UKI.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn uki(&self, unlocker: Unlocker, probe: bool, command_line: &str) -> Result<Uki> {
        let initramfs = self.initramfs(unlocker, probe)?;
        Uki::new(&self.cache, &self.tools, &self.firmware, &initramfs, command_line)
    }

    /// Our module with a configuration that opens what systemd enrolled.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn lenient_uki(&self) -> Result<Uki> {
        let initramfs = self.initramfs_trusting(Trust::Anybody, Unlocker::CvmUnlock, false)?;
        Uki::new(&self.cache, &self.tools, &self.firmware, &initramfs, COMMAND_LINE)
    }

    /// PCR 7 on this firmware with our signer when the initrd unlocks volumes: recorded once by a boot of
    /// its own, then predicted for the guest's release.
    ///
    /// # Errors
    /// When the recorder does not print it.
    pub fn pcr7(&self) -> Result<String> {
        let firmwares = self.of(Suite::Trixie).recorded_pcr7()?;
        Ok(hex(&self.suite.pcr7(&unhex(&firmwares)?)))
    }

    /// What firmware and signer make of PCR 7, whichever kernel runs.
    fn recorded_pcr7(&self) -> Result<String> {
        let base = self.initramfs(Unlocker::None, false)?;
        let recorder = Uki::recorder(&self.cache, &self.tools, &self.firmware, &base)?;
        let key = Key::of("pcr7 1").artefact(recorder.artefact()).artefact(&self.factory_tpm);
        let artefact = self.cache.artefact("pcr7", key, |path| {
            let outcome =
                Boot::new(self, "recorder")?.direct(&recorder).tpm(self.factory_tpm.path.clone()).run()?;
            let lines = outcome.serial.lines();
            let value = lines.iter().find_map(|line| line.text.split_once("recorded 7 "));
            let (_, value) = value
                .with_context(|| format!("The recorder printed no PCR 7\n{}", outcome.serial.tail(25)))?;
            fs::write(path.join("value"), value.trim().to_lowercase())?;
            Ok(())
        })?;
        Ok(fs::read_to_string(artefact.file("value"))?)
    }

    /// The policy that this UKI, booted on our firmware, satisfies in the initrd.
    ///
    /// # Errors
    /// When PCR 7 cannot be recorded.
    pub fn policy(&self, uki: &Uki) -> Result<String> {
        Ok(format!("7:sha256={}+11:sha256={}", self.pcr7()?, uki.pcr11()?))
    }

    /// A root file system, not encrypted.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn filesystem(&self, userland: Userland) -> Result<Filesystem> {
        Filesystem::new(&self.cache, &self.tools, &self.guest()?, userland)
    }

    /// An encrypted root that opens for this UKI.
    ///
    /// # Errors
    /// When it cannot be built or enrolled.
    pub fn enrolled(&self, uki: &Uki, userland: Userland) -> Result<Enrolled> {
        self.enrolled_by(Enroller::CvmUnlock, uki, userland)
    }

    /// The same, by whomever.
    ///
    /// # Errors
    /// When it cannot be built or enrolled.
    pub fn enrolled_by(&self, enroller: Enroller, uki: &Uki, userland: Userland) -> Result<Enrolled> {
        let volume = Volume::new(&self.cache, &self.tools, &self.filesystem(userland)?)?;
        let policy = self.policy(uki)?;
        Enrolled::new(
            &self.cache,
            &self.tools,
            &self.product,
            &volume,
            &self.factory_tpm,
            (enroller, &policy),
        )
    }

    /// A disk image in a directory of its own.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn disk(&self, name: &str, uki: Option<&Uki>, root: &Root) -> Result<Disk> {
        let dir = self.cache.run_dir(&format!("disk-{name}"))?;
        Disk::assemble(&self.tools, &dir, "disk.img", uki, root)
    }
}
