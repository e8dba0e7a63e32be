//! Describes an image property by property, and builds it.

use anyhow::Result;

use crate::artefacts::format::Format;
use crate::artefacts::initramfs::Initramfs;
use crate::artefacts::owner::Trust;
use crate::artefacts::policy::PolicyKey;
use crate::artefacts::recipe::{Network, Probe, Recipe, Unlocker};
use crate::artefacts::suite::Suite;
use crate::artefacts::tree;
use crate::artefacts::uki::{COMMAND_LINE, Uki};
use crate::artefacts::workbench::Workbench;

/// An image that is being described. It begins as the one that is shipped: our module, the strict
/// configuration, no probe, no signature of PCR 11.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    workbench: &'a Workbench,
    suite: Suite,
    recipe: Recipe,
    command_line: String,
    signer: Option<PolicyKey>,
}

impl<'a> Image<'a> {
    /// The image that is shipped to guests of this release with roots of this format.
    pub fn new(workbench: &'a Workbench, suite: Suite, format: Format) -> Self {
        let recipe = Recipe { format, ..Recipe::default() };
        Self { workbench, suite, recipe, command_line: COMMAND_LINE.to_owned(), signer: None }
    }

    /// Unlocks the root by other means.
    #[must_use]
    pub fn unlocker(mut self, unlocker: Unlocker) -> Self {
        self.recipe.unlocker = unlocker;
        self
    }

    /// Runs the test's scripts in the initramfs.
    #[must_use]
    pub fn probed(mut self) -> Self {
        self.recipe.probe = Probe::Scripts;
        self
    }

    /// Has a configuration that trusts somebody else.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.recipe.trust = trust;
        self
    }

    /// Configures its network in another way.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.recipe.network = network;
        self
    }

    /// Has more words on its measured command line.
    #[must_use]
    pub fn appending(mut self, words: &str) -> Self {
        self.command_line = format!("{} {words}", self.command_line);
        self
    }

    /// Carries this key's signature of PCR 11 in the initrd.
    #[must_use]
    pub fn signed_by(mut self, signer: &PolicyKey) -> Self {
        self.signer = Some(signer.clone());
        self
    }

    /// The initramfs alone.
    ///
    /// # Errors
    /// When the guest's tree cannot be built, or dracut fails.
    pub fn initramfs(&self) -> Result<Initramfs> {
        let Workbench { cache, product, .. } = self.workbench;
        let guest = tree::guest_with(cache, self.suite, self.recipe.network.packages())?;
        Initramfs::new(cache, &guest, product, self.recipe)
    }

    /// The signed UKI.
    ///
    /// # Errors
    /// When the initramfs cannot be built, or ukify or sbsign fails.
    pub fn uki(&self) -> Result<Uki> {
        Uki::new(self.workbench, &self.initramfs()?, &self.command_line, self.signer.as_ref())
    }
}
