//! Measures us and systemd's own unlocker: same machine, same volume, same policy, same base image.
//!
//! Times come from the guest's journal and kernel log, TPM commands
//! from swtpm, memory from the kernel's own accounts. Boots alternate, so that a busy host hits both.

use anyhow::{Context, Result};

use crate::artefacts::enrolled::Enroller;
use crate::artefacts::filesystem::Userland;
use crate::artefacts::growth::Growth;
use crate::artefacts::recipe::Unlocker;
use crate::judges::evidence::{Evidence, stamp};
use crate::judges::outcome::Outcome;
use crate::lab::Lab;
use crate::machine::disk::Root;

/// Measures `runs` boots of each unlocker and prints a table.
///
/// # Errors
/// When a boot does not reach the real root.
pub fn run(lab: &Lab, runs: usize) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    let mut last = [None, None];
    for _ in 0..runs {
        for ((contender, times), last) in CONTENDERS.iter().zip(&mut times).zip(&mut last) {
            let outcome = contender.boot(lab, None)?;
            times.push(Times::of(outcome.evidence()?, contender.unit)?);
            *last = Some(outcome);
        }
    }
    let base = lab.image().unlocker(Unlocker::None).initramfs()?;
    for ((contender, times), last) in CONTENDERS.iter().zip(&times).zip(&last) {
        println!("\n{} ({} boots, median, smallest to largest)", contender.name, times.len());
        for (index, what) in Times::NAMES.iter().enumerate() {
            let mut values: Vec<_> = times.iter().filter_map(|times| times.0.get(index).copied()).collect();
            values.sort_by(f64::total_cmp);
            let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
            let (low, high) = (at(0), at(values.len().saturating_sub(1)));
            println!("  {what:34} {:7.3} s   {low:.3} to {high:.3}", at(values.len() / 2));
        }
        if let Some(outcome) = last {
            let commands = outcome.tpm()?.of_the_unlocker();
            println!("  {:34} {:4}   {:?}", "TPM commands", commands.commands().len(), commands.counts());
        }
        let memory = Memory::of(contender.boot(lab, Some(MEMORY))?.evidence()?)?;
        println!("  {:34} {:7.1} MiB", "peak resident (VmHWM)", mebibytes(memory.resident));
        println!("  {:34} {:7.1} MiB", "peak of its cgroup", mebibytes(memory.cgroup));
        let growth = Growth::between(
            &lab.workbench.tools,
            &base,
            &lab.image().unlocker(contender.unlocker).initramfs()?,
        )?;
        println!("  {:34} {:9} B", "initramfs growth, zstd", growth.compressed);
        println!("  {:34} {:9} B", "  its files, uncompressed", growth.unpacked);
        println!("  {:34} {:9} B", "  without kernel modules", growth.userspace);
        println!("  {:34} {:9} B", "  without kernel modules, zstd", growth.userspace_compressed);
        println!("  {:34} {:9} B", "  kernel modules", growth.modules);
    }
    Ok(())
}

struct Contender {
    name: &'static str,
    unit: &'static str,
    process: &'static str,
    unlocker: Unlocker,
    enroller: Enroller,
}

impl Contender {
    /// One boot; with a script beside the unit if one is given.
    fn boot(&self, lab: &Lab, beside: Option<&str>) -> Result<Outcome> {
        let lab = lab.part(self.name);
        let image = lab.image().unlocker(self.unlocker);
        let uki = if beside.is_some() { image.probed() } else { image }.uki()?;
        let enrolled = lab.enrolled_by(self.enroller, &uki, Userland::Script)?;
        let disk = lab.disk(Some(&uki), &Root::Encrypted(enrolled.clone()))?;
        let mut boot = lab.boot()?.disk(&disk).tpm(enrolled.tpm());
        if let Some(script) = beside {
            boot = boot
                .file("beside", script.replace("PROCESS", self.process))
                .file("after", AFTER.replace("UNIT", self.unit));
        }
        let outcome = boot.run()?;
        outcome.reached_real_root()?;
        disk.discard()?;
        Ok(outcome)
    }
}

/// Seconds of the guest's monotonic clock.
struct Times([f64; 3]);

impl Times {
    const NAMES: [&str; 3] =
        ["the unit itself", "partition seen -> unit done", "partition seen -> root mounted"];

    fn of(evidence: &Evidence, unit: &str) -> Result<Self> {
        let journal = evidence.text("journal")?;
        let kernel = evidence.text("kernel-log")?;
        let partition = stamp(&kernel, " vda: vda1 vda2")?;
        let mounted = stamp(&kernel, "(dm-0): mounted filesystem")?;
        let started = stamp(&journal, &format!("Starting {unit}"))?;
        let finished = stamp(&journal, &format!("Finished {unit}"))?;
        Ok(Self([finished - started, finished - partition, mounted - partition]))
    }
}

/// Bytes.
struct Memory {
    resident: f64,
    cgroup: f64,
}

impl Memory {
    fn of(evidence: &Evidence) -> Result<Self> {
        let number = |piece: &str| -> Result<f64> {
            let text = evidence.text(piece)?;
            text.trim().parse().with_context(|| format!("`{piece}` is no number: {text}"))
        };
        Ok(Self { resident: number("resident")? * 1024.0, cgroup: number("cgroup")? })
    }
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / 1_048_576.0
}

const CONTENDERS: &[Contender] = &[
    Contender {
        name: "cvm-unlock",
        unit: "cvm-unlock.service",
        process: "cvm-unlock",
        unlocker: Unlocker::CvmUnlock,
        enroller: Enroller::CvmUnlock,
    },
    Contender {
        name: "systemd-cryptsetup",
        unit: "systemd-cryptsetup@root.service",
        process: "systemd-cryptse",
        unlocker: Unlocker::Systemd,
        enroller: Enroller::Systemd,
    },
];

/// Reads the process's high-water mark again and again until it is gone; the last value counts.
const MEMORY: &str = r#"
found=
while [ -z "$found" ]; do
    for process in /proc/[0-9]*; do
        read -r name < $process/comm
        [ "$name" != PROCESS ] || found=$process
    done
done
while :; do
    peak=
    while read -r key value rest; do
        [ "$key" != VmHWM: ] || peak=$value
    done < $found/status
    [ -n "$peak" ] || break
    echo $peak > resident
done
"#;

const AFTER: &str = "systemctl show --property=MemoryPeak --value UNIT > cgroup";
