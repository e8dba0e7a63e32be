//! What a machine that has to attest finds at the end of its cable: a server that is gone, no IPv4, an address that the
//! administrator chose, nobody at all, another network daemon in the image.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use crate::boot::Boot;
use crate::broker::{Broker, FIRST, SECOND};
use crate::disk::Root;
use crate::initramfs::{Network, STATIC_ADDRESS};
use crate::lab::Lab;
use crate::nameserver::NAME;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::scenarios::attested::{FIRST_URL, Fixture, SECOND_URL, refused};
use crate::uki::COMMAND_LINE;

/// Nobody listens at the first server's address; the second is named, and found by the name server.
///
/// # Errors
/// When the root is not reached by the second server's key.
pub fn two_servers(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let service = fixture.service(lab, SECOND, &fixture.other)?;
    let wire = lab.wire()?;
    let broker = Broker::start(lab, &wire, "two-servers", &service)?;
    let disk = lab.disk("two-servers", Some(&fixture.other), &Root::Encrypted(fixture.enrolled.clone()))?;
    let boot = Boot::new(lab, "two-servers")?.network(Net::User, &wire).disk(&disk);
    let attempt = (boot.tpm(fixture.enrolled.tpm()).run()?, broker);
    fixture.opened_by(lab, &attempt, SECOND_URL)?;
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
    let attempt = fixture.boot(lab, "ipv6-only", &fixture.other, (Net::Ipv6Only, &service))?;
    fixture.opened_by(lab, &attempt, SECOND_URL)?;
    attempt.0.sent_packets("TCP over IPv6").map(drop)
}

/// Address, router and name server stand in a file of the administrator's; the network is not asked for any.
///
/// # Errors
/// When the root is not reached, or with another address.
pub fn fixed(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let uki = lab.attesting_uki(Network::Static, false, COMMAND_LINE)?;
    let service = fixture.service(lab, SECOND, &uki)?;
    let attempt = fixture.boot(lab, "static-network", &uki, (Net::User, &service))?;
    fixture.opened_by(lab, &attempt, SECOND_URL)?;
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

/// Attack: the host unplugs the other end of the cable. The link is up and nobody answers. The control is `attested`.
///
/// # Errors
/// When the machine does not end fenced.
pub fn nobody(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let service = fixture.service(lab, FIRST, &fixture.other)?;
    let (outcome, broker) = fixture.boot(lab, "no-dhcp", &fixture.other, (Net::Nowhere, &service))?;
    refused(&outcome, "network-unavailable")?.sent_packets("UDP over IPv4")?;
    outcome.explain(broker.was_not_asked()).map(drop)
}

/// A distribution whose network is NetworkManager's, in the initramfs as well.
///
/// # Errors
/// When the root is not reached.
pub fn network_manager(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let uki = lab.attesting_uki(Network::NetworkManager, false, COMMAND_LINE)?;
    let service = fixture.service(lab, FIRST, &uki)?;
    let attempt = fixture.boot(lab, "network-manager", &uki, (Net::User, &service))?;
    fixture.opened_by(lab, &attempt, FIRST_URL)
}
