//! A machine whose firmware has no Secure Boot: PCR 7 differs from the one that the volume is sealed to, so
//! the TPM does not unseal. A key broker that knows the image by PCRs 4, 11 and 12 can decide instead.

use anyhow::Result;

use crate::artefacts::addresses::{FIRST, first_url};
use crate::artefacts::uki::Uki;
use crate::encoding::hex;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::network::broker::Broker;
use crate::network::card::Net;
use crate::network::service::Service;
use crate::scenarios::attested::{Fixture, ZERO, refused};

/// Three boots: the broker does not know the image's PCR 4 yet; it knows it; the image is another one. PCR 4
/// comes from swtpm's log of the first boot, which is denied.
///
/// # Errors
/// When the second does not open, or one of the others does.
pub fn run(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let ours = &fixture.sealed_to;
    let service = fixture.service(lab, FIRST, ours)?.pcr(12, ZERO);

    let unknown = service.clone().pcr(4, ZERO);
    let (outcome, broker) = boot(&lab.part("unknown"), &fixture, ours, &unknown)?;
    refused(&outcome, "kbs-denied")?.explain(broker.denied_because("policy: PCR 4"))?;

    let known = service.pcr(4, &hex(&outcome.tpm()?.replay(4)));
    let attempt = boot(lab, &fixture, ours, &known)?;
    fixture.opened_by(&attempt, &first_url())?;

    let (outcome, broker) = boot(&lab.part("other"), &fixture, &fixture.other, &known)?;
    refused(&outcome, "kbs-denied")?.explain(broker.denied_because("policy: PCR 11")).map(drop)
}

fn boot(lab: &Lab, fixture: &Fixture, uki: &Uki, service: &Service) -> Result<(Outcome, Broker)> {
    let wire = lab.wire()?;
    let broker = lab.broker(&wire, service)?;
    let disk = lab.disk(Some(uki), &Root::Encrypted(fixture.enrolled.clone()))?;
    let boot = lab.boot()?.without_secure_boot().network(Net::User, &wire).disk(&disk);
    let outcome = boot.tpm(fixture.enrolled.tpm()).run()?;
    disk.discard()?;
    Ok((outcome, broker))
}
