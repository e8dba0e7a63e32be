//! The TPM's two device nodes: `/dev/tpm0`, which one process at a time can hold, and the kernel's resource
//! manager `/dev/tpmrm0`. We take the first; while another process holds it, the second, which costs more
//! commands at the chip.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::artefacts::filesystem::Userland;
use crate::judges::evidence::stamp;
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;
use crate::progress::say;

/// Two boots of one image: `/dev/tpm0` is free, then another process holds it.
///
/// # Errors
/// When the root is not reached, or by another node.
pub fn run(lab: &Lab) -> Result<()> {
    for (part, script, node) in [("free", FREE, Node::Device), ("held", HELD, Node::ResourceManager)] {
        let outcome = boot(&lab.part(part), script)?;
        outcome.explain(judge(&outcome, node))?;
    }
    Ok(())
}

/// The node that we are expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Device,
    ResourceManager,
}

fn boot(lab: &Lab, script: &str) -> Result<Outcome> {
    let uki = lab.image().probed().uki()?;
    let enrolled = lab.enrolled(&uki, Userland::Script)?;
    let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
    let outcome = lab
        .boot()?
        .disk(&disk)
        .tpm(enrolled.tpm())
        .file("before", script)
        .file("after", "kill $(cat holder)")
        .run()?;
    outcome.reached_real_root()?.fenced_with(&enrolled.volume.measurement()?)?.left_no_session()?;
    disk.discard()?;
    Ok(outcome)
}

fn judge(outcome: &Outcome, node: Node) -> Result<()> {
    let managed = node == Node::ResourceManager;
    let evidence = outcome.evidence()?;
    let free = evidence.text("free")?;
    ensure!(free.trim() == if managed { "no" } else { "yes" }, "/dev/tpm0 was free: {free}");
    let (journal, tpm) = (evidence.text("journal")?, outcome.tpm()?.of_the_unlocker());
    ensure!(journal.contains(FELL_BACK) == managed, "Another node than the first was taken: {}", !managed);
    let counts = tpm.counts();
    ensure!(
        counts.contains_key("ContextSave") == managed,
        "The resource manager swapped other contexts: {counts:?}"
    );
    ensure!(managed || tpm.commands().len() <= BUDGET, "Too many commands reached the chip: {counts:?}");
    let report: Value = serde_json::from_str(&evidence.text("report/report.json")?)?;
    let stages = report.pointer("/stages").and_then(Value::as_array).context("The report has no stages")?;
    let member = |stage: &Value, name: &str| stage.get(name).cloned().unwrap_or_default();
    let microseconds: u64 = stages
        .iter()
        .filter(|stage| matches!(member(stage, "stage").as_str(), Some("unseal" | "fence")))
        .filter_map(|stage| member(stage, "microseconds").as_u64())
        .sum();
    let unit =
        stamp(&journal, "Finished cvm-unlock.service")? - stamp(&journal, "Starting cvm-unlock.service")?;
    say(&format!(
        "{}: {} commands at the chip, unseal and fence {microseconds} us, unit {unit:.3} s; {counts:?}",
        if managed { "/dev/tpmrm0" } else { "/dev/tpm0" },
        tpm.commands().len(),
    ));
    Ok(())
}

/// The promised limit of commands at the chip in an unlock with a literal policy.
const BUDGET: usize = 10;

/// What we log when a node is busy.
const FELL_BACK: &str = "TPM /dev/tpm0 is in use, taking the next";

/// A process of the same kind in both boots.
const FREE: &str = r#"sleep 600 &
echo $! > holder
if ( : 3<> /dev/tpm0 ) 2> /dev/null; then echo yes > free; else echo no > free; fi
"#;

/// Holds the device open and sends nothing.
const HELD: &str = r#"exec 3<> /dev/tpm0
sleep 600 &
echo $! > holder
exec 3>&-
if ( : 3<> /dev/tpm0 ) 2> /dev/null; then echo yes > free; else echo no > free; fi
"#;
