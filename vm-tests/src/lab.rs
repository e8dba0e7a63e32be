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
use crate::disk::{Disk, Layout, Root};
use crate::enrolled::{Enrolled, Enroller};
use crate::firmware::Firmware;
use crate::format::{Format, disk_tools};
use crate::initramfs::{Initramfs, Network, Product, Recipe, Unlocker};
use crate::owner::{Owner, Trust};
use crate::pki::Pki;
use crate::policy::{Policy, PolicyKey};
use crate::serial::Live;
use crate::suite::Suite;
use crate::tpm::manufacture;
use crate::tree::{self, Tree, output_of};
use crate::uki::{COMMAND_LINE, Uki};
use crate::volume::{Filesystem, Userland, Volume};
use crate::wire::Wire;
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
    /// The format of their root file systems.
    pub format: Format,
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
    /// `CVM_UNLOCK_TEST_DOUBLE`, `CVM_UNLOCK_DRACUT_MODULE` and `CVM_UNLOCK_VM_CACHE` name other places.
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
        let pki = Pki::new(&cache, &tools)?;
        Ok(Self {
            suite: Suite::Trixie,
            format: Format::Ext4,
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
            live: Live::Quiet,
        })
    }

    /// The same workbench with guests of another release.
    #[must_use]
    pub fn of(&self, suite: Suite) -> Self {
        Self { suite, ..self.clone() }
    }

    /// The same workbench with root file systems of another format.
    #[must_use]
    pub fn with(&self, format: Format) -> Self {
        Self { format, ..self.clone() }
    }

    /// The guest's distribution.
    ///
    /// # Errors
    /// When its tree cannot be built.
    pub fn guest(&self) -> Result<Artefact> {
        tree::guest(&self.cache, self.suite)
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
        let network = Network::Automatic;
        self.initramfs_of(Recipe { unlocker, probe, trust, format: self.format, network })
    }

    /// The initramfs of a recipe.
    ///
    /// # Errors
    /// When dracut fails.
    pub fn initramfs_of(&self, recipe: Recipe) -> Result<Initramfs> {
        let guest = match recipe.network {
            Network::Automatic | Network::Static => self.guest()?,
            Network::NetworkManager => tree::guest_with(&self.cache, self.suite, &["network-manager"])?,
        };
        Initramfs::new(&self.cache, &guest, &self.product, recipe)
    }

    /// Our module in an image that falls back to the key brokers, and comes by its network so.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn attesting_uki(&self, network: Network, probe: bool, command_line: &str) -> Result<Uki> {
        let unlocker = Unlocker::CvmUnlock;
        let recipe = Recipe { unlocker, probe, trust: Trust::Brokers, format: self.format, network };
        let initramfs = self.initramfs_of(recipe)?;
        Uki::new(&self.cache, &self.tools, &self.firmware, &initramfs, command_line, None)
    }

    /// A network of a scenario's own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wire(&self) -> Result<Wire> {
        Wire::new(&self.cache, &self.tools)
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
        Uki::new(&self.cache, &self.tools, &self.firmware, &initramfs, command_line, None)
    }

    /// Our module with a configuration that opens what systemd enrolled.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn lenient_uki(&self) -> Result<Uki> {
        let initramfs = self.initramfs_trusting(Trust::Anybody, Unlocker::CvmUnlock, false)?;
        Uki::new(&self.cache, &self.tools, &self.firmware, &initramfs, COMMAND_LINE, None)
    }

    /// A UKI whose PCR 11 in the initrd `signer` has signed.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn signed_uki(&self, initramfs: &Initramfs, command_line: &str, signer: &PolicyKey) -> Result<Uki> {
        Uki::new(&self.cache, &self.tools, &self.firmware, initramfs, command_line, Some(signer))
    }

    /// The key of that name for signing PCR 11.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn policy_key(&self, name: &str) -> Result<PolicyKey> {
        PolicyKey::new(&self.cache, &self.tools, name)
    }

    /// PCR 7 on this firmware with our signer when the initrd unlocks volumes: recorded once by a boot of
    /// its own, then predicted for the guest's release.
    ///
    /// # Errors
    /// When the recorder does not print it.
    pub fn pcr7(&self) -> Result<String> {
        let firmwares = fs::read_to_string(self.recorded_pcr7()?.file("value"))?;
        Ok(hex(&self.suite.pcr7(&unhex(&firmwares)?)))
    }

    /// The digests that the firmware extends PCR 7 with, in order.
    ///
    /// # Errors
    /// When they cannot be recorded.
    pub fn pcr7_events(&self) -> Result<Vec<Vec<u8>>> {
        let events = fs::read_to_string(self.recorded_pcr7()?.file("events"))?;
        events.lines().map(unhex).collect()
    }

    /// What firmware and signer make of PCR 7, whichever kernel runs.
    fn recorded_pcr7(&self) -> Result<Artefact> {
        let base = self.of(Suite::Trixie).with(Format::Ext4).initramfs(Unlocker::None, false)?;
        let recorder = Uki::recorder(&self.cache, &self.tools, &self.firmware, &base)?;
        let key = Key::of("pcr7 2").artefact(recorder.artefact()).artefact(&self.factory_tpm);
        self.cache.artefact("pcr7", key, |path| {
            let outcome =
                Boot::new(self, "recorder")?.direct(&recorder).tpm(self.factory_tpm.path.clone()).run()?;
            let lines = outcome.serial.lines();
            let value = lines.iter().find_map(|line| line.text.split_once("recorded 7 "));
            let (_, value) = value
                .with_context(|| format!("The recorder printed no PCR 7\n{}", outcome.serial.tail(25)))?;
            fs::write(path.join("value"), value.trim().to_lowercase())?;
            let events = outcome.tpm()?.extends(7).iter().map(|digest| hex(digest)).collect::<Vec<_>>();
            Ok(fs::write(path.join("events"), events.join("\n"))?)
        })
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
        let guest = tree::guest_with(&self.cache, self.suite, userland.packages())?;
        Filesystem::new(&self.cache, &self.tools, &guest, userland, self.format)
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
        self.enrolled_to(enroller, &Policy::literal(self.policy(uki)?), userland)
    }

    /// An encrypted root that opens under this policy.
    ///
    /// # Errors
    /// When it cannot be built or enrolled.
    pub fn enrolled_to(&self, enroller: Enroller, policy: &Policy, userland: Userland) -> Result<Enrolled> {
        self.enrolled_with(&self.factory_tpm, enroller, policy, userland)
    }

    /// The same with a TPM that holds other keys already.
    ///
    /// # Errors
    /// When it cannot be built or enrolled.
    pub fn enrolled_with(
        &self,
        tpm: &Artefact,
        enroller: Enroller,
        policy: &Policy,
        userland: Userland,
    ) -> Result<Enrolled> {
        let volume = Volume::new(&self.cache, &self.tools, &self.filesystem(userland)?)?;
        Enrolled::new(&self.cache, &self.tools, &self.product, &volume, tpm, (enroller, policy))
    }

    /// A disk image in a directory of its own.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn disk(&self, name: &str, uki: Option<&Uki>, root: &Root) -> Result<Disk> {
        self.disk_like(Layout::default(), name, uki, root)
    }

    /// A disk image that looks otherwise, or is attached otherwise.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn disk_like(&self, layout: Layout, name: &str, uki: Option<&Uki>, root: &Root) -> Result<Disk> {
        let dir = self.cache.run_dir(&format!("disk-{name}"))?;
        Disk::assemble((&self.tools, &disk_tools(&self.cache)?), (&dir, "disk.img"), uki, root, layout)
    }
}
