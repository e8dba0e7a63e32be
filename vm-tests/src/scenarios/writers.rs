//! Tokens of several versions of systemd-cryptenroll, all sealed to one TPM, in one boot. A dry run in the
//! initramfs tries each of them before the machine's own root opens, which the first of these versions
//! enrolled.
//!
//! Beside each kind there is a token that must not open: enrolled at another value of PCR 7, or for another
//! key's signatures. Afterwards systemd-cryptenroll itself opens the same volumes on the host, with the TPM's
//! PCRs extended as in the machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::artefacts::owner::Trust;
use crate::artefacts::policy::Policy;
use crate::artefacts::tokens::{Cell, Tokens};
use crate::artefacts::tpm::{Swtpm, copy_state};
use crate::artefacts::tree::output_of;
use crate::artefacts::writer::{Kind, REFERENCE, Writer};
use crate::encoding::hex;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::machine::recorder::pcr7_events;
use crate::progress::say;

/// Versions 252, 254 and 257.
///
/// # Errors
/// When a token does not open, or one opens that must not.
pub fn run(lab: &Lab) -> Result<()> {
    matrix(lab, &[Writer::V252, Writer::V254, Writer::V257])
}

/// The version of Debian sid.
///
/// # Errors
/// When a token does not open, or one opens that must not.
pub fn sid(lab: &Lab) -> Result<()> {
    matrix(lab, &[Writer::Sid])
}

fn matrix(lab: &Lab, writers: &[Writer]) -> Result<()> {
    let events = pcr7_events(&lab.workbench)?;
    let tokens = Tokens::new(&lab.workbench, &events, cells(lab, writers)?)?;
    let key = lab.policy_key("ours")?;
    let root = Policy::after(&events).and_signed(&key);
    let writer = Enroller::Version(*writers.first().context("No writer")?);
    let enrolled = lab.enrolled_with(tokens.tpm(), writer, &root, Userland::Script)?;

    let uki = lab.image().trusting(Trust::Anybody).probed().signed_by(&key).uki()?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let approval = key.approve(&lab.workbench.tools, &uki.pcr11()?, REFERENCE)?;
    let mut boot = lab.boot()?.disk(&disk).tpm(enrolled.tpm()).patience(DRY_RUNS);
    boot = boot.file("before", BEFORE).file(SIGNATURE, json!({"sha256": [approval]}).to_string());
    for cell in &tokens.cells {
        boot = boot.file(&cell.file(), fs::read(tokens.volume(cell))?);
    }
    let outcome = boot.run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?)?;
    outcome.explain(judge(&outcome, &tokens))?;
    control(lab, &outcome, &tokens, &approval)?;
    disk.discard()
}

/// What each version can write, and for each kind one that must not open.
fn cells(lab: &Lab, writers: &[Writer]) -> Result<Vec<Cell>> {
    let (ours, others) = (lab.policy_key("ours")?, lab.policy_key("others")?);
    let cell = |writer: Writer, kind, stale| Cell { writer, kind, signer: ours.clone(), stale };
    let mut cells = Vec::new();
    for writer in writers {
        cells.extend(writer.kinds().iter().map(|kind| cell(*writer, *kind, false)));
        cells.push(cell(*writer, Kind::Literal, true));
        cells.push(cell(*writer, Kind::Both, true));
        cells.push(Cell { signer: others.clone(), ..cell(*writer, Kind::Signed, true) });
    }
    Ok(cells)
}

/// Each dry run ended as its cell says.
fn judge(outcome: &Outcome, tokens: &Tokens) -> Result<()> {
    let evidence = outcome.evidence()?;
    let mut wrong = Vec::new();
    for cell in &tokens.cells {
        let name = cell.name();
        let code = evidence.text(&format!("{name}.code"))?;
        let text = evidence.text(&format!("{name}.json"))?;
        let report: Value = serde_json::from_str(&text).with_context(|| format!("{name}: {text}"))?;
        let said = |pointer: &str| report.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (code, said) = (code.trim(), (said("/outcome"), said("/failure/slug")));
        say(&format!("{name:24} exit {code:3} {} {}", said.0, said.1));
        let expected = match (cell.stale, cell.kind) {
            (false, _) => ("0", ("would-unlock", "")),
            (true, Kind::Signed) => ("77", ("failed", "signature-missing")),
            (true, _) => ("77", ("failed", "pcr-mismatch")),
        };
        if (code, said) != expected {
            wrong.push(format!("{name}: exit {code}, {said:?}, not {expected:?}\n{text}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// systemd's own tool opens the same tokens on the host, with the TPM as it was in the initrd, and no other.
fn control(lab: &Lab, outcome: &Outcome, tokens: &Tokens, approval: &Value) -> Result<()> {
    let dir = lab.run_dir("control")?;
    let mut signatures: Value = serde_json::from_str(&outcome.evidence()?.text("stub.json")?)?;
    let entries = signatures.get_mut("sha256").and_then(Value::as_array_mut);
    entries.context("The stub left no signatures")?.push(approval.clone());
    let signature = dir.join(SIGNATURE);
    fs::write(&signature, signatures.to_string())?;
    let state = copy_state(&tokens.tpm().path, &dir.join("tpm"))?;
    let swtpm = Swtpm::on_the_host(&lab.workbench.tools, &state)?;
    let log = outcome.tpm()?;
    let initrd = log.before_leaving_the_initrd();
    let events = [7, 11].into_iter().flat_map(|pcr| {
        initrd.extends(pcr).into_iter().map(move |digest| format!("{pcr}:sha256={}", hex(&digest)))
    });
    let tcti = format!("--tcti={}", swtpm.address());
    lab.workbench.tools.run("tpm2_pcrextend", std::iter::once(tcti).chain(events))?;
    for cell in &tokens.cells {
        let volume = dir.join(cell.file());
        fs::copy(tokens.volume(cell), &volume)?;
        let opened = unlocks(lab, cell, (&volume, &signature, swtpm.address()))?;
        match (opened, cell.stale) {
            (Ok(_), false) | (Err(_), true) => {}
            (Ok(_), true) => bail!("systemd-cryptenroll opens {}", cell.name()),
            (Err(error), false) => bail!("systemd-cryptenroll does not open {}: {error:#}", cell.name()),
        }
    }
    drop(swtpm);
    fs::remove_dir_all(dir).context("Removing the opened copies")
}

/// Whether systemd-cryptenroll can unlock the volume by its token to add a recovery key. Version 257 is the
/// first here with that option; sid's tokens need sid's version.
fn unlocks(lab: &Lab, cell: &Cell, (volume, signature, tpm): (&Path, &Path, &str)) -> Result<Result<String>> {
    let reader = if cell.writer == Writer::Sid { Writer::Sid } else { Writer::V257 };
    let mut command: Command = reader.tree(&lab.workbench.cache)?.command("sh");
    command.args(["-c", UNLOCK, "sh"]).args([volume, signature]).arg(tpm);
    Ok(output_of(&mut command, "systemd-cryptenroll"))
}

/// A dry run takes 2 s on an idle host, and 10 s on a busy one.
const DRY_RUNS: Duration = Duration::from_secs(180);
/// A signature with a policy reference, beside those that systemd-stub leaves.
const SIGNATURE: &str = "signature.json";

/// Runs in the initramfs, before our unit.
const BEFORE: &str = r#"
cat /.extra/tpm2-pcr-signature.json > stub.json
mkdir -p /run/systemd
cat ../in/signature.json > /run/systemd/tpm2-pcr-signature.json
for volume in ../in/*.luks; do
    name=${volume##*/}; name=${name%.luks}
    cvm-unlock unlock --dry-run --json "$volume" > "$name.json" 2> "$name.log"
    echo $? > "$name.code"
done
"#;

/// Arguments: volume, signature file, TPM. systemd looks for signatures in its own places only.
const UNLOCK: &str = r#"set -e
mount -t tmpfs tmpfs /run
mkdir /run/systemd
cp "$2" /run/systemd/tpm2-pcr-signature.json
exec systemd-cryptenroll --recovery-key --unlock-tpm2-device="$3" "$1"
"#;
