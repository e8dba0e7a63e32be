//! A platform without a TPM, whose image says so: another kind of evidence gets the key. Here it is the
//! sample evidence of an executable for tests, as TDX and SNP need hardware. An image that needs a TPM and
//! finds none is `no-tpm`.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::artefacts::addresses::{FIRST, first_url};
use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::artefacts::owner::Trust;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::network::card::Net;
use crate::network::service::{Service, path_of};
use crate::scenarios::attested::says_who;

/// One boot.
///
/// # Errors
/// When the root is not reached, or the report does not warn that there is no fence.
pub fn run(lab: &Lab) -> Result<()> {
    let uki = lab.image().trusting(Trust::BrokersAlone).uki()?;
    let enrolled = lab.enrolled_by(Enroller::Broker, &uki, Userland::Script)?;
    let service = Service::at(FIRST).with("tees", json!(["sample"])).serving(&enrolled)?;
    let wire = lab.wire()?;
    let broker = lab.broker(&wire, &service)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab.boot()?.network(Net::User, &wire).disk(&disk).run()?;
    outcome.reached_real_root()?;
    let released = broker.released_once(&path_of(&enrolled)?);
    let judged = released.and_then(|()| says_who(&outcome, &first_url())).and_then(|()| warns(&outcome));
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
