//! Attacks by servers, and by whoever is between: `cvm-unlock attest --connect` tries one of each kind in the
//! initramfs of a single boot, and refuses it with its own slug. The good server among them is the control.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::artefacts::addresses::{FIRST, IPV4, first_url};
use crate::artefacts::owner::{Trust, brokers};
use crate::artefacts::pki::Certificate;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::network::card::Net;
use crate::network::service::Service;
use crate::progress::say;
use crate::scenarios::attested::{Fixture, says_who};

/// A server, and the result of a handshake with it.
struct Case {
    name: &'static str,
    /// None, if nobody listens.
    service: Option<Service>,
    /// The guest's clock, if it is set back: `date -s`.
    clock: &'static str,
    /// The slug of the refusal; empty for success.
    slug: &'static str,
}

/// One boot, with a script before our unit, which then gets its key from the good server.
///
/// # Errors
/// When a case has another result, or the root is not reached.
pub fn run(lab: &Lab) -> Result<()> {
    let fixture = Fixture::new(lab)?;
    let uki = lab.image().trusting(Trust::Brokers).probed().uki()?;
    let wire = lab.wire()?;
    let good = fixture.service(lab, FIRST, &uki)?;
    let _good = lab.part("good").broker(&wire, &good)?;
    let mut running = Vec::new();
    let disk = lab.disk(Some(&uki), &Root::Encrypted(fixture.enrolled.clone()))?;
    let mut boot = lab.boot()?.network(Net::User, &wire).disk(&disk);
    boot = boot.tpm(fixture.enrolled.tpm()).file("before", BEFORE);
    let cases = cases();
    for (port, case) in (PORTS..).zip(&cases) {
        let port = if case.slug.is_empty() { FIRST } else { port };
        if let Some(service) = &case.service {
            running.push(lab.part(case.name).broker(&wire, &service.clone().on(port))?);
        }
        let config = configuration(&lab.workbench.product.pki.authority()?, port);
        boot = boot.file(&format!("{}.config", case.name), config.to_string());
        boot = boot.file(&format!("{}.clock", case.name), case.clock);
    }
    let outcome = boot.run()?;
    outcome.reached_real_root()?;
    outcome.explain(judge(&outcome, &cases).and_then(|()| says_who(&outcome, &first_url())))?;
    disk.discard()
}

fn cases() -> Vec<Case> {
    let case = |name, slug, service| Case { name, service: Some(service), clock: "", slug };
    let fault = |step: &str, fault: &str| Service::at(0).with("faults", json!({step: fault}));
    let certified = |certificate| Service::at(0).certified(certificate);
    vec![
        Case { name: "good", service: None, clock: "", slug: "" },
        Case { name: "down", service: None, clock: "", slug: "kbs-unreachable" },
        case("hang", "kbs-timeout", fault("auth", "hang")),
        case("silent", "kbs-timeout", Service::at(0).with("tls_fault", json!("silent"))),
        case("html", "kbs-answer", fault("auth", "html")),
        case("not-http", "kbs-answer", fault("attest", "not-http")),
        case("redirect", "kbs-redirect", fault("auth", "redirect")),
        case("huge", "kbs-answer-too-large", fault("attest", "huge")),
        case("stranger", "kbs-certificate", certified(Certificate::Stranger)),
        case("expired", "kbs-certificate", certified(Certificate::Expired)),
        Case {
            clock: PAST,
            ..case("expired-in-the-past", "kbs-certificate", certified(Certificate::Expired))
        },
        Case { name: "good-in-the-past", service: None, clock: PAST, slug: "" },
    ]
}

/// The configuration of `attest --connect`.
fn configuration(authority: &str, port: u16) -> Value {
    let mut brokers = brokers(authority);
    let members = [
        ("servers", json!([{"url": format!("https://{IPV4}:{port}"), "ca": authority}])),
        ("deadline_seconds", json!(8)),
        ("connect_timeout_seconds", json!(8)),
    ];
    if let Some(all) = brokers.as_object_mut() {
        all.extend(members.map(|(name, value)| (name.to_owned(), value)));
    }
    json!({"kbs": brokers})
}

/// In an initramfs, our messages go to the kernel's log, and name the server.
fn judge(outcome: &Outcome, cases: &[Case]) -> Result<()> {
    let evidence = outcome.evidence()?;
    let said = outcome.serial.lines();
    let mut wrong = Vec::new();
    for (port, case) in (PORTS..).zip(cases) {
        let code = evidence.text(&format!("{}.code", case.name))?;
        let server = format!("https://{IPV4}:{port}");
        let lines: Vec<_> =
            said.iter().filter(|line| line.text.contains(&server)).map(|line| &line.text).collect();
        let named = lines.iter().any(|text| text.ends_with(&format!("[{}]", case.slug)));
        say(&format!("{:20} exit {:3} {}", case.name, code.trim(), case.slug));
        if (code.trim() == "0") != case.slug.is_empty() || named == case.slug.is_empty() {
            wrong.push(format!("{}: exit {}, not `{}`: {lines:?}", case.name, code.trim(), case.slug));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Ports of the hostile servers, from here on.
const PORTS: u16 = 8500;
/// When the expired certificate was valid.
const PAST: &str = "2020-06-01 12:00:00";

/// Runs in the initramfs, before our unit: asks for the network as our unit would, and waits for a default
/// route.
const BEFORE: &str = r#"
mkdir -p /run/cvm-unlock
: > /run/cvm-unlock/network-wanted
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    while read -r device destination rest; do
        [ "$destination" != 00000000 ] || break 2
    done < /proc/net/route
    sleep 1
done
cat /proc/net/route > routes
for config in ../in/*.config; do
    name=${config##*/}; name=${name%.config}
    read -r clock < "../in/$name.clock"
    now=$(date -u +@%s)
    [ -z "$clock" ] || date -u -s "$clock" > /dev/null
    cvm-unlock attest --connect --json --config="$config" > "$name.json" 2> "$name.log"
    echo $? > "$name.code"
    [ -z "$clock" ] || date -u -s "$now" > /dev/null
done
rm -f /run/cvm-unlock/network-wanted
"#;
