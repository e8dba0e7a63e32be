//! A machine whose firmware has no Secure Boot: PCR 7 is another one than the volume is sealed to, so that the TPM gives
//! nothing. A key broker that knows the image by PCRs 4, 11 and 12 can decide instead.

use anyhow::Result;

use crate::boot::Boot;
use crate::broker::{Broker, FIRST, Service};
use crate::disk::Root;
use crate::hex;
use crate::lab::Lab;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::scenarios::attested::{FIRST_URL, Fixture, ZERO, refused};
use crate::uki::Uki;

/// The image before the broker knows its PCR 4, with it, and another image. PCR 4 is recorded in the first boot, which is
/// denied: from what swtpm's log says that the firmware measured.
///
/// # Errors
/// When the second does not open, or one of the others does.
pub fn run(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let ours = &fixture.sealed_to;
    let service = fixture.service(lab, FIRST, ours)?.pcr(12, ZERO);

    let unknown = service.clone().pcr(4, ZERO);
    let (outcome, broker) = boot(lab, &fixture, "no-secure-boot-unknown", ours, &unknown)?;
    refused(&outcome, "kbs-denied")?.explain(broker.denied_because("policy: PCR 4"))?;

    let known = service.pcr(4, &hex(&outcome.tpm()?.replay(4)));
    let attempt = boot(lab, &fixture, "no-secure-boot", ours, &known)?;
    fixture.opened_by(lab, &attempt, FIRST_URL)?;

    let (outcome, broker) = boot(lab, &fixture, "no-secure-boot-other", &fixture.other, &known)?;
    refused(&outcome, "kbs-denied")?.explain(broker.denied_because("policy: PCR 11")).map(drop)
}

fn boot(lab: &Lab, fixture: &Fixture, name: &str, uki: &Uki, service: &Service) -> Result<(Outcome, Broker)> {
    let wire = lab.wire()?;
    let broker = Broker::start(lab, &wire, name, service)?;
    let disk = lab.disk(name, Some(uki), &Root::Encrypted(fixture.enrolled.clone()))?;
    let boot = Boot::new(lab, name)?.without_secure_boot().network(Net::User, &wire).disk(&disk);
    let outcome = boot.tpm(fixture.enrolled.tpm()).run()?;
    disk.discard()?;
    Ok((outcome, broker))
}
