//! A platform without a TPM, whose image says so: another kind of evidence gets the key. Here it is the sample evidence of
//! an executable for tests; TDX and SNP hosts are not at hand. A machine without a TPM whose image wants one is `no-tpm`.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::boot::Boot;
use crate::broker::{Broker, FIRST, Service, path_of};
use crate::disk::Root;
use crate::enrolled::Enroller;
use crate::initramfs::Unlocker;
use crate::lab::Lab;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::owner::Trust;
use crate::scenarios::attested::{FIRST_URL, says_who};
use crate::uki::{COMMAND_LINE, Uki};
use crate::volume::Userland;

/// One boot.
///
/// # Errors
/// When the root is not reached, or the report does not warn that there is no fence.
pub fn run(lab: &Lab) -> Result<()> {
    let initramfs = lab.initramfs_trusting(Trust::BrokersAlone, Unlocker::CvmUnlock, false)?;
    let uki = Uki::new(&lab.cache, &lab.tools, &lab.firmware, &initramfs, COMMAND_LINE, None)?;
    let enrolled = lab.enrolled_by(Enroller::Broker, &uki, Userland::Script)?;
    let service = Service::at(FIRST).with("tees", json!(["sample"])).serving(lab, &enrolled)?;
    let wire = lab.wire()?;
    let broker = Broker::start(lab, &wire, "no-tpm-attested", &service)?;
    let disk = lab.disk("no-tpm-attested", Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = Boot::new(lab, "no-tpm-attested")?.network(Net::User, &wire).disk(&disk).run()?;
    outcome.reached_real_root()?;
    let released = broker.released_once(&path_of(lab, &enrolled)?);
    let judged = released.and_then(|()| says_who(&outcome, FIRST_URL)).and_then(|()| warns(&outcome));
    outcome.explain(judged)?;
    disk.discard()
}

fn warns(outcome: &Outcome) -> Result<()> {
    let report = outcome.evidence()?.report()?;
    let warnings = report.get("warnings").and_then(Value::as_array).into_iter().flatten();
    let slugs: Vec<_> = warnings.filter_map(|warning| warning.get("slug")?.as_str()).collect();
    ensure!(slugs.contains(&"fence-absent"), "No warning `fence-absent` among {slugs:?}");
    Ok(())
}
