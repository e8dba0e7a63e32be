//! `attest`: what this machine proves of itself, and whether the key brokers take it.

use std::fmt::Write;

use base64ct::{Base64, Encoding};
use serde::Serialize;
use serde_json::Value;

use super::common::{Common, lock_memory};
use super::given::Given;
use super::options;
use super::output::{print, print_json};
use super::usage::{Mistake, UsageError};
use crate::attest::protocol::challenge::Nonce;
use crate::attest::protocol::{TeeKey, Version};
use crate::attest::{AttestError, Attester, Fault, ReportData, Settings};
use crate::base::error::Error;
use crate::base::hex;
use crate::config::Config;
use crate::format::tpm2::attestation_key::AttestationKey;
use crate::network::Asked;
use crate::tpm::esapi::EsapiTpm;
use crate::tpm::{Device, Tpm};

/// A request to show what this machine proves.
#[derive(Debug)]
pub(super) struct Attest {
    to: Purpose,
    tpm: Device,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// Evidence that no server asked for.
    Show,
    /// The attestation key only.
    ShowKey,
    /// Have the key brokers judge the evidence.
    Connect,
}

impl Attest {
    pub(super) fn parse(given: &Given) -> Result<Self, UsageError> {
        let to = match (given.has(&options::SHOW_AK), given.has(&options::CONNECT)) {
            (false, false) => Purpose::Show,
            (true, false) => Purpose::ShowKey,
            (false, true) => Purpose::Connect,
            (true, true) => return Err(given.refuse(Mistake::Contradiction("--show-ak", "--connect"))),
        };
        Ok(Self { to, tpm: given.tpm()? })
    }
}

pub(super) fn run(common: &Common, request: &Attest) -> Result<u8, Error> {
    lock_memory();
    let config = common.configuration()?;
    match request.to {
        Purpose::Show => show(common, &request.tpm, &config),
        Purpose::ShowKey => {
            let key = KeyForms::of(&EsapiTpm::open(&request.tpm)?.attestation_key()?);
            if common.json { print_json(&key) } else { print(&key.text()) }
        }
        Purpose::Connect => {
            let settings = config.kbs.as_ref().ok_or(AttestError::NotConfigured)?;
            connect(common, &request.tpm, settings)
        }
    }
}

/// Evidence that no server asked for.
fn show(common: &Common, device: &Device, config: &Config) -> Result<u8, Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|_| Fault::Random)?;
    let key = TeeKey::generate().ok_or(Fault::Random)?;
    let report_data = ReportData::primary(&Nonce::from_bytes(&random), key.public(), "");
    let mut tpm = None;
    let mut attester = attester(config.kbs.as_ref(), device, &mut tpm)?;
    let evidence = attester.primary.collect(&report_data).map_err(Fault::Evidence)?;
    let shown = Shown {
        protocol: Version::V0_4_0.as_str(),
        tee: attester.tee().name(),
        report_data: hex::encode(report_data.field()),
        evidence,
    };
    if common.json { print_json(&shown) } else { print(&shown.text()) }
}

fn connect(common: &Common, device: &Device, settings: &Settings) -> Result<u8, Error> {
    let mut tpm = None;
    let mut attester = attester(Some(settings), device, &mut tpm)?;
    let until = settings.until();
    let _network = Asked::for_one_of(&common.root, &settings.servers.endpoints())?.wait(until)?;
    let accepted = crate::attest::rehearse(settings, &mut attester, until)?;
    if common.json {
        return print_json(&accepted);
    }
    print(&format!(
        "{} accepts the evidence ({}, protocol {}). Recognised by {}. No key was fetched: whether the resource policy\n\
         releases one is not known.\n",
        accepted.server, accepted.tee, accepted.protocol, accepted.pin
    ))
}

/// The evidence that the configuration names, or the TPM's; `tpm` keeps the TPM open.
fn attester<'a>(
    settings: Option<&'a Settings>,
    device: &Device,
    tpm: &'a mut Option<EsapiTpm>,
) -> Result<Attester<'a>, Error> {
    let kind = settings.map(|settings| settings.evidence).unwrap_or_default();
    let tpm: Option<&mut dyn Tpm> = match kind.needs_tpm() {
        true => Some(tpm.insert(EsapiTpm::open(device)?)),
        false => None,
    };
    let attester = match settings {
        Some(settings) => Attester::configured(settings, tpm),
        None => Attester::by(kind, tpm),
    };
    Ok(attester.ok_or(AttestError::NotConfigured)?)
}

/// The attestation key as servers know it.
#[derive(Serialize)]
struct KeyForms {
    /// SHA-256 of the `SubjectPublicKeyInfo`.
    sha256: String,
    /// `ak_public` of the evidence: `SubjectPublicKeyInfo` in DER and base64.
    ak_public: String,
    pem: String,
}

impl KeyForms {
    fn of(key: &AttestationKey) -> Self {
        Self {
            sha256: hex::encode(&key.fingerprint()),
            ak_public: Base64::encode_string(&key.spki()),
            pem: key.pem(),
        }
    }

    fn text(&self) -> String {
        format!(
            "{}\nsha256:{}\n\nak_public, for trusted_aks:\n{}\n",
            self.pem.trim(),
            self.sha256,
            self.ak_public
        )
    }
}

/// Evidence, and what it is bound to.
#[derive(Serialize)]
struct Shown {
    protocol: &'static str,
    tee: &'static str,
    report_data: String,
    evidence: Value,
}

impl Shown {
    /// The values of the PCRs are what a person compares.
    fn text(&self) -> String {
        let mut out =
            format!("{:>12}: {}\n{:>12}: {}\n", "evidence", self.tee, "report data", self.report_data);
        let pcrs = self.evidence.pointer("/tpm_quote/pcrs").and_then(Value::as_array);
        for (number, value) in pcrs.into_iter().flatten().enumerate() {
            // Writing to a String cannot fail.
            let _infallible =
                writeln!(out, "{:>12}: {}", format!("PCR {number}"), value.as_str().unwrap_or_default());
        }
        if let Some(key) = self.evidence.get("ak_public").and_then(Value::as_str) {
            let _infallible = writeln!(out, "{:>12}: {key}", "ak_public");
        }
        out
    }
}
