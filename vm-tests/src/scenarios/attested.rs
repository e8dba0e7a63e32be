//! When the TPM does not unseal, the machine attests to a key broker, which decides about the key. The broker
//! verifies quotes with tpm2-tools and PCRs by its own policy; QEMU records what leaves the machine.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::artefacts::addresses::{FIRST, first_url};
use crate::artefacts::enrolled::{Enrolled, Enroller};
use crate::artefacts::filesystem::Userland;
use crate::artefacts::owner::Trust;
use crate::artefacts::tpm::manufacture_at;
use crate::artefacts::uki::Uki;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::{Disk, Root};
use crate::network::broker::Broker;
use crate::network::card::Net;
use crate::network::service::{Service, path_of};

/// A volume that is sealed to one UKI and known to a key broker, and another UKI, for which the TPM does not
/// unseal.
pub(super) struct Fixture {
    pub(super) sealed_to: Uki,
    pub(super) other: Uki,
    pub(super) enrolled: Enrolled,
}

impl Fixture {
    pub(super) fn new(lab: &Lab) -> Result<Self> {
        let image = lab.image().trusting(Trust::Brokers);
        let (sealed_to, other) = (image.uki()?, image.appending("release=2").uki()?);
        let enrolled = lab.enrolled_by(Enroller::TpmAndBroker, &sealed_to, Userland::Script)?;
        Ok(Self { sealed_to, other, enrolled })
    }

    /// A broker that has the volume's key for this TPM when it runs this UKI and has not unlocked anything.
    pub(super) fn service(&self, lab: &Lab, port: u16, uki: &Uki) -> Result<Service> {
        let service =
            Service::at(port).serving(&self.enrolled)?.knowing(&lab.workbench, &self.enrolled.tpm())?;
        Ok(service.pcr(11, &uki.pcr11()?).pcr(15, ZERO))
    }

    /// The outcome of a boot of this UKI with this broker on this network.
    pub(super) fn boot(
        &self,
        lab: &Lab,
        uki: &Uki,
        (net, service): (Net, &Service),
    ) -> Result<(Outcome, Broker)> {
        let wire = lab.wire()?;
        let broker = lab.broker(&wire, service)?;
        let disk = lab.disk(Some(uki), &Root::Encrypted(self.enrolled.clone()))?;
        let boot = lab.boot()?.network(net, &wire).disk(&disk).tpm(self.enrolled.tpm());
        let outcome = boot.run()?;
        disk.discard()?;
        Ok((outcome, broker))
    }

    /// The other UKI boots, and the broker that is returned opens the root.
    pub(super) fn fallback(&self, lab: &Lab) -> Result<Service> {
        let service = self.service(lab, FIRST, &self.other)?;
        let attested = self.boot(lab, &self.other, (Net::User, &service))?;
        self.opened_by(&attested, &first_url())?;
        attested.0.sent_packets("TCP over IPv4")?;
        Ok(service)
    }

    /// The root was reached by a key that `server` gave out once.
    pub(super) fn opened_by(&self, (outcome, broker): &(Outcome, Broker), server: &str) -> Result<()> {
        outcome
            .reached_real_root()?
            .fenced_with(&self.enrolled.volume.measurement()?)?
            .left_no_session()?
            .left_no_network()?
            .unsealed_nothing()?;
        let released = broker.released_once(&path_of(&self.enrolled)?);
        outcome.explain(released.and_then(|()| says_who(outcome, server))).map(drop)
    }
}

/// The report names the broker, and says that the owner's signature of the volume is valid.
pub(super) fn says_who(outcome: &Outcome, server: &str) -> Result<()> {
    let report = outcome.evidence()?.report()?;
    let said = |pointer: &str| report.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let who = (said("/volume/attestation/server"), said("/volume/proof/authenticity"));
    ensure!(who == (server, "owner-signature"), "The report names {who:?}, not {server}: {report}");
    Ok(())
}

/// Another UKI than the enrolled one, which needs the broker. Then the enrolled one, which does not touch the
/// network.
///
/// # Errors
/// When either does not reach the root, or by another way.
pub fn run(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let service = fixture.fallback(lab)?;
    let (outcome, broker) = fixture.boot(&lab.part("control"), &fixture.sealed_to, (Net::User, &service))?;
    outcome.reached_real_root()?.fenced_with(&fixture.enrolled.volume.measurement()?)?;
    outcome.explain(broker.was_not_asked())?.sent_no_packet().map(drop)
}

/// Another UKI, whose PCR 11 the broker does not allow. The control is `attested`.
///
/// # Errors
/// When the machine does not end fenced, or got a key.
pub fn denied(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let service = fixture.service(lab, FIRST, &fixture.sealed_to)?;
    let (outcome, broker) = fixture.boot(lab, &fixture.other, (Net::User, &service))?;
    refused(&outcome, "kbs-denied")?.explain(broker.denied_because("policy: PCR 11")).map(drop)
}

/// Attack: the broker gives out the key of another volume. The control is `attested`.
///
/// # Errors
/// When the machine does not end fenced.
pub fn other_volumes_key(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let another = lab.enrolled_by(Enroller::Broker, &fixture.sealed_to, Userland::Systemd)?;
    let path = path_of(&fixture.enrolled)?;
    ensure!(path != path_of(&another)?, "Both volumes have the UUID of {path}");
    let service = fixture.service(lab, FIRST, &fixture.other)?.serving_at(&path, &another.key_document())?;
    let (outcome, broker) = fixture.boot(lab, &fixture.other, (Net::User, &service))?;
    refused(&outcome, "keyslot-not-opened")?.explain(broker.released_once(&path)).map(drop)
}

/// A cloud whose TPMs are new at every boot. The broker checks PCRs and no attestation key, the disk keeps
/// what the guest writes, and nothing writes to the volume's header.
///
/// # Errors
/// When a boot does not reach the root, or the header changed.
pub fn stateless_tpm(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let uki = &fixture.sealed_to;
    let service = Service::at(FIRST).serving(&fixture.enrolled)?;
    let service = service.pcr(11, &uki.pcr11()?).pcr(15, ZERO);
    let disk = lab.disk(Some(uki), &Root::Encrypted(fixture.enrolled.clone()))?;
    let before = header(&disk)?;
    for number in 1..=3 {
        let lab = lab.part(&number.to_string());
        let wire = lab.wire()?;
        let broker = lab.broker(&wire, &service)?;
        let state = fresh_tpm(&lab)?;
        let boot = lab.boot()?.network(Net::User, &wire).disk(&disk).written_through();
        let attempt = (boot.tpm(state.clone()).run()?, broker);
        fixture.opened_by(&attempt, &first_url())?;
        fs::remove_dir_all(state)?;
        let unchanged = header(&disk)? == before;
        let judged = unchanged.then_some(()).context("The volume's header was written");
        attempt.0.explain(judged)?;
    }
    disk.discard()
}

/// The machine fenced the TPM and powered off for this reason, and the TPM unsealed nothing.
pub(super) fn refused<'a>(outcome: &'a Outcome, slug: &str) -> Result<&'a Outcome> {
    outcome.powered_off_without_asking()?.refused_with(slug)?.unsealed_nothing()?.fenced_after_failure()
}

fn fresh_tpm(lab: &Lab) -> Result<PathBuf> {
    let dir = lab.run_dir("tpm")?;
    manufacture_at(&lab.workbench.tools, &dir)?;
    Ok(dir)
}

/// The bytes of the root partition before the encrypted data.
fn header(disk: &Disk) -> Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    read_at(disk.path(), &mut bytes)?;
    Ok(bytes)
}

fn read_at(path: &Path, bytes: &mut [u8]) -> Result<()> {
    Ok(fs::File::open(path)?.read_exact_at(bytes, PARTITION)?)
}

pub(super) const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Where the partition begins (`disk.rs`), and its data in it (`volume.rs`).
const PARTITION: u64 = 98 << 20;
const HEADER: usize = 16 << 20;
