//! Networks on which a machine has to attest: the first server is down, there is no IPv4, the administrator
//! chose the address, nobody answers, or the image has another network daemon.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use crate::artefacts::addresses::{FIRST, NAME, SECOND, first_url, second_url};
use crate::artefacts::owner::Trust;
use crate::artefacts::recipe::{Network, STATIC_ADDRESS};
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::network::card::Net;
use crate::scenarios::attested::{Fixture, refused};

/// Nobody listens at the first server's address; the second is named, and found by the name server.
///
/// # Errors
/// When the root is not reached by the second server's key.
pub fn two_servers(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let service = fixture.service(lab, SECOND, &fixture.other)?;
    let wire = lab.wire()?;
    let broker = lab.broker(&wire, &service)?;
    let disk = lab.disk(Some(&fixture.other), &Root::Encrypted(fixture.enrolled.clone()))?;
    let boot = lab.boot()?.network(Net::User, &wire).disk(&disk);
    let attempt = (boot.tpm(fixture.enrolled.tpm()).run()?, broker);
    fixture.opened_by(&attempt, &second_url())?;
    let asked = wire.questions();
    let by_name = asked.iter().any(|question| question.ends_with(NAME));
    attempt
        .0
        .explain(by_name.then_some(()).with_context(|| format!("Nobody asked for {NAME}: {asked:?}")))?;
    disk.discard()
}

/// A network without IPv4: address, router and name server come from router advertisements.
///
/// # Errors
/// When the root is not reached, or by IPv4.
pub fn ipv6_only(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let service = fixture.service(lab, SECOND, &fixture.other)?;
    let attempt = fixture.boot(lab, &fixture.other, (Net::Ipv6Only, &service))?;
    fixture.opened_by(&attempt, &second_url())?;
    attempt.0.sent_packets("TCP over IPv6").map(drop)
}

/// Address, router and name server come from the administrator's file, not from the network.
///
/// # Errors
/// When the root is not reached, or with another address.
pub fn fixed(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let uki = lab.image().trusting(Trust::Brokers).network(Network::Static).uki()?;
    let service = fixture.service(lab, SECOND, &uki)?;
    let attempt = fixture.boot(lab, &uki, (Net::User, &service))?;
    fixture.opened_by(&attempt, &second_url())?;
    attempt.0.explain(has_only(&attempt.0, STATIC_ADDRESS)).map(drop)
}

/// Every IPv4 packet of the guest came from this address.
fn has_only(outcome: &Outcome, address: Ipv4Addr) -> Result<()> {
    let packets = outcome.packets.as_ref().context("The machine had no network card")?;
    let mut sources: Vec<_> = packets.sent().iter().filter_map(|packet| packet.ipv4_source()).collect();
    sources.sort_unstable();
    sources.dedup();
    ensure!(sources == [address], "The guest's addresses were {sources:?}, not {address}");
    Ok(())
}

/// Attack: the host unplugs the other end of the cable. The link is up and nobody answers. The control is
/// `attested`.
///
/// # Errors
/// When the machine does not end fenced.
pub fn nobody(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let service = fixture.service(lab, FIRST, &fixture.other)?;
    let (outcome, broker) = fixture.boot(lab, &fixture.other, (Net::Nowhere, &service))?;
    refused(&outcome, "network-unavailable")?.sent_packets("UDP over IPv4")?;
    outcome.explain(broker.was_not_asked()).map(drop)
}

/// A distribution that uses NetworkManager, in the initramfs as well.
///
/// # Errors
/// When the root is not reached.
pub fn network_manager(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let uki = lab.image().trusting(Trust::Brokers).network(Network::NetworkManager).uki()?;
    let service = fixture.service(lab, FIRST, &uki)?;
    let attempt = fixture.boot(lab, &uki, (Net::User, &service))?;
    fixture.opened_by(&attempt, &first_url())
}
