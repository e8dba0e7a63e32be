//! The lab of one scenario: it builds images, volumes and disks, switches machines on, and keeps their traces
//! under the scenario's name.

use std::path::PathBuf;

use anyhow::Result;

use crate::artefacts::cache::Artefact;
use crate::artefacts::enrolled::{Enrolled, Enroller};
use crate::artefacts::filesystem::{Filesystem, Userland};
use crate::artefacts::format::{Format, disk_tools};
use crate::artefacts::image::Image;
use crate::artefacts::policy::{Policy, PolicyKey};
use crate::artefacts::suite::Suite;
use crate::artefacts::tree;
use crate::artefacts::uki::Uki;
use crate::artefacts::volume::Volume;
use crate::artefacts::workbench::Workbench;
use crate::encoding::hex;
use crate::machine::boot::Boot;
use crate::machine::disk::{Disk, Layout, Root};
use crate::machine::recorder;
use crate::network::broker::Broker;
use crate::network::service::Service;
use crate::network::wire::Wire;

/// A workbench, a name, and what the guests are like.
#[derive(Debug, Clone)]
pub struct Lab {
    /// What all scenarios share.
    pub workbench: Workbench,
    name: String,
    suite: Suite,
    format: Format,
}

impl Lab {
    /// The lab of the scenario with this name: guests of Debian 13, roots of ext4.
    pub fn new(workbench: &Workbench, name: &str) -> Self {
        let workbench = workbench.clone();
        Self { workbench, name: name.to_owned(), suite: Suite::Trixie, format: Format::Ext4 }
    }

    /// The same lab for another boot of the scenario, whose traces get a name of their own: `NAME-PART`.
    #[must_use]
    pub fn part(&self, part: &str) -> Self {
        Self { name: format!("{}-{part}", self.name), ..self.clone() }
    }

    /// The same lab with guests of another release.
    #[must_use]
    pub fn of(&self, suite: Suite) -> Self {
        Self { suite, ..self.clone() }
    }

    /// The same lab with root file systems of another format.
    #[must_use]
    pub fn with(&self, format: Format) -> Self {
        Self { format, ..self.clone() }
    }

    /// An image to describe, which begins as the one that is shipped.
    pub fn image(&self) -> Image<'_> {
        Image::new(&self.workbench, self.suite, self.format)
    }

    /// The key of that name for signing PCR 11.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn policy_key(&self, name: &str) -> Result<PolicyKey> {
        PolicyKey::new(&self.workbench.cache, &self.workbench.tools, name)
    }

    /// PCR 7 on this firmware with our signer when the initrd unlocks volumes, in hexadecimal: recorded once,
    /// then predicted for the guest's release.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub fn pcr7(&self) -> Result<String> {
        Ok(hex(&self.suite.pcr7(&recorder::pcr7(&self.workbench)?)))
    }

    /// The policy that this UKI satisfies in the initrd on our firmware.
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
        let Workbench { cache, tools, .. } = &self.workbench;
        let guest = tree::guest_with(cache, self.suite, userland.packages())?;
        Filesystem::new(cache, tools, &guest, userland, self.format)
    }

    /// An encrypted root that opens for this UKI.
    ///
    /// # Errors
    /// When it cannot be built or enrolled.
    pub fn enrolled(&self, uki: &Uki, userland: Userland) -> Result<Enrolled> {
        self.enrolled_by(Enroller::CvmUnlock, uki, userland)
    }

    /// The same, enrolled by somebody else.
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
        self.enrolled_with(&self.workbench.factory_tpm, enroller, policy, userland)
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
        let Workbench { cache, tools, .. } = &self.workbench;
        let volume = Volume::new(cache, tools, &self.filesystem(userland)?)?;
        Enrolled::new(&self.workbench, &volume, tpm, (enroller, policy))
    }

    /// A disk image with this UKI, if any, and this root.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn disk(&self, uki: Option<&Uki>, root: &Root) -> Result<Disk> {
        self.disk_like(Layout::default(), uki, root)
    }

    /// A disk image with another layout, or attached in another way.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn disk_like(&self, layout: Layout, uki: Option<&Uki>, root: &Root) -> Result<Disk> {
        let Workbench { cache, tools, .. } = &self.workbench;
        let dir = self.run_dir("disk")?;
        Disk::assemble((tools, &disk_tools(cache)?), (&dir, "disk.img"), uki, root, layout)
    }

    /// A machine that is about to be switched on.
    ///
    /// # Errors
    /// When the directory for its traces cannot be made.
    pub fn boot(&self) -> Result<Boot<'_>> {
        Boot::new(&self.workbench, &self.name)
    }

    /// A network of this scenario's own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wire(&self) -> Result<Wire> {
        Wire::new(&self.workbench.cache, &self.workbench.tools)
    }

    /// A key broker that runs on this network.
    ///
    /// # Errors
    /// When it does not start, or does not pass its own test.
    pub fn broker(&self, wire: &Wire, service: &Service) -> Result<Broker> {
        Broker::start(&self.workbench, wire, &self.name, service)
    }

    /// An empty directory for this purpose.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn run_dir(&self, purpose: &str) -> Result<PathBuf> {
        self.workbench.cache.run_dir(&format!("{purpose}-{}", self.name))
    }
}
