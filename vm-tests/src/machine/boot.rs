//! One boot, from switching the machine on to its end. Every boot has a deadline, and all that it wrote is
//! kept in its directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::artefacts::firmware::{Security, Variable};
use crate::artefacts::tpm::{Swtpm, copy_state};
use crate::artefacts::uki::Uki;
use crate::artefacts::workbench::Workbench;
use crate::judges::evidence::Evidence;
use crate::judges::outcome::{End, Outcome};
use crate::judges::packets::Packets;
use crate::judges::serial::Serial;
use crate::judges::swtpm_log::TpmLog;
use crate::machine::disk::Disk;
use crate::machine::nbd::Nbd;
use crate::machine::parts::Parts;
use crate::machine::qemu::{Machine, Start};
use crate::machine::qmp::Qmp;
use crate::network::card::Net;
use crate::network::wire::Wire;
use crate::progress::say;

/// A machine that is about to be switched on.
#[derive(Debug)]
pub struct Boot<'a> {
    workbench: &'a Workbench,
    dir: PathBuf,
    name: String,
    start: Start,
    disks: Vec<&'a Disk>,
    served: Option<&'a Nbd>,
    late: Option<(&'a Disk, Duration)>,
    tpm: Option<PathBuf>,
    security: Security,
    variable: Option<Variable>,
    written_through: bool,
    memory: u32,
    card: Option<(Net, &'a Wire)>,
    files: Vec<(String, Vec<u8>)>,
    deadline: Duration,
}

impl<'a> Boot<'a> {
    /// A machine with the workbench's firmware and nothing else; its traces are kept under `name`.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn new(workbench: &'a Workbench, name: &str) -> Result<Self> {
        Ok(Self {
            workbench,
            dir: workbench.cache.run_dir(name)?,
            name: name.to_owned(),
            start: Start::FromDisk,
            disks: Vec::new(),
            served: None,
            late: None,
            tpm: None,
            security: Security::SecureBoot,
            variable: None,
            written_through: false,
            memory: MEMORY,
            card: None,
            files: Vec::new(),
            deadline: DEADLINE,
        })
    }

    /// Attaches this disk; the firmware boots from the first one that it can boot from.
    #[must_use]
    pub fn disk(mut self, disk: &'a Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Boots from the disk that this server pretends to be; it counts when the kernel
    /// runs, and lies when the root is unlocked.
    #[must_use]
    pub fn served(mut self, server: &'a Nbd) -> Self {
        self.served = Some(server);
        self
    }

    /// Plugs this disk in when the kernel has run for a while.
    #[must_use]
    pub fn late_disk(mut self, disk: &'a Disk, after: Duration) -> Self {
        self.late = Some((disk, after));
        self
    }

    /// Hands the UKI to the firmware without a disk.
    #[must_use]
    pub fn direct(mut self, uki: &Uki) -> Self {
        self.start = Start::Direct(uki.path());
        self
    }

    /// Gives the machine a copy of this TPM's state.
    #[must_use]
    pub fn tpm(mut self, state: PathBuf) -> Self {
        self.tpm = Some(state);
        self
    }

    /// Gives the machine a network card, whose other end is on this wire. Without, it has none.
    #[must_use]
    pub fn network(mut self, net: Net, wire: &'a Wire) -> Self {
        self.card = Some((net, wire));
        self
    }

    /// Starts from firmware without Secure Boot.
    #[must_use]
    pub fn without_secure_boot(mut self) -> Self {
        self.security = Security::None;
        self
    }

    /// Has the host set a variable of the firmware.
    #[must_use]
    pub fn variable(mut self, variable: Variable) -> Self {
        self.variable = Some(variable);
        self
    }

    /// Keeps what the guest writes to its disks.
    #[must_use]
    pub fn written_through(mut self) -> Self {
        self.written_through = true;
        self
    }

    /// Gives the machine this much memory, in MiB, for what the test itself does in the guest.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// Gives the guest a file. The probe in the initramfs runs `before`, `after` and `beside`; the real root
    /// runs `booted`.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Waits so much longer for the end, for what the test itself does in the guest.
    #[must_use]
    pub fn patience(mut self, more: Duration) -> Self {
        self.deadline += more;
        self
    }

    /// Switches the machine on and waits for its end. An emulator that hangs before the kernel has started
    /// its first process, or that loses the kernel's timer, says nothing about us: then, once, another
    /// machine is switched on.
    ///
    /// # Errors
    /// When the machine cannot be built or watched; never because of what the guest did.
    pub fn run(self) -> Result<Outcome> {
        let outcome = self.attempt()?;
        if outcome.end != End::Stalled {
            return Ok(outcome);
        }
        say(&format!("boot {}: the emulator hung or lost a timer; once more", self.name));
        self.attempt()
    }

    fn attempt(&self) -> Result<Outcome> {
        let parts =
            Parts::lay_out(self.workbench, &self.dir, (self.security, self.variable.as_ref()), &self.files)?;
        if let Some(server) = self.served {
            server.reset();
        }
        let swtpm = match &self.tpm {
            Some(state) => {
                let state = copy_state(state, &self.dir.join("tpm"))?;
                Some(Swtpm::for_machine(&self.workbench.tools, &state, &parts.tpm_socket, &parts.tpm_log)?)
            }
            None => None,
        };
        let machine = Machine {
            code: self.workbench.firmware.code(self.security),
            variables: parts.variables,
            start: self.start.clone(),
            security: self.security,
            disks: &self.disks,
            written_through: self.written_through,
            memory: self.memory,
            card: self.card.map(|(net, wire)| (net, wire, parts.packets.clone())),
            served_disk: self.served.map(Nbd::socket),
            late_disk: self.late.map(|(disk, _)| disk.path()),
            input: parts.input,
            output: parts.output.clone(),
            tpm: swtpm.as_ref().map(Swtpm::address),
            qmp: &parts.qmp_socket,
        };
        let started = Instant::now();
        let errors = self.dir.join("qemu.err");
        let mut qemu = machine
            .command(&self.workbench.tools)
            .stderr(fs::File::create(&errors)?)
            .spawn()
            .context("Starting QEMU")?;
        let console = qemu.stdout.take().context("QEMU has no console")?;
        let (serial, thread) = Serial::follow(console, &self.dir.join("serial.log"), self.workbench.live)?;
        let end = self.watch(&mut qemu, &serial, &parts.qmp_socket);
        // Whatever happened, nothing of this machine goes on.
        let _ = qemu.kill();
        qemu.wait()?;
        let wall = started.elapsed();
        let _ = thread.join();
        drop(swtpm);
        let end = end.with_context(|| {
            format!("{}\n{}", fs::read_to_string(errors).unwrap_or_default(), serial.tail(20))
        })?;
        say(&format!("boot {}: {end:?} after {:.1} s", self.name, wall.as_secs_f64()));
        Ok(Outcome {
            name: self.name.clone(),
            end,
            wall,
            tpm: parts.tpm_log.exists().then(|| TpmLog::read(&parts.tpm_log)).transpose()?,
            packets: self.card.map(|_| Packets::read(&parts.packets)).transpose()?,
            evidence: Evidence::unpack(&parts.output, &self.dir.join("out"))?,
            serial,
            dir: self.dir.clone(),
        })
    }

    fn watch(&self, qemu: &mut Child, serial: &Serial, socket: &Path) -> Result<End> {
        let mut qmp = Qmp::connect(socket)?;
        let started = Instant::now();
        let mut late = self.late;
        loop {
            let ended = qemu.try_wait()?;
            if let Some(reason) = qmp.shutdown_reason() {
                return Ok(match reason.as_str() {
                    "guest-shutdown" => End::PoweredOff,
                    "guest-reset" => End::Reset,
                    _ => End::Other(reason),
                });
            }
            if let Some(status) = ended {
                // Its last event may still be on the way.
                sleep(Duration::from_millis(300));
                if qmp.shutdown_reason().is_some() {
                    continue;
                }
                return Ok(End::Other(format!("QEMU ended with {status}")));
            }
            if let Some(server) = self.served {
                if serial.says(UNLOCKED) {
                    server.lie();
                } else if serial.says(KERNEL_RUNS) {
                    server.count();
                }
            }
            let silent = started.elapsed() > KERNEL_DEADLINE && !serial.says(KERNEL_RUNS);
            if silent || serial.says(TIMER_LOST) {
                return Ok(End::Stalled);
            }
            if started.elapsed() > self.deadline {
                return Ok(End::Deadline);
            }
            if let (Some((_, after)), Some(kernel)) = (late, serial.time_of(KERNEL_RUNS))
                && started.elapsed() > kernel + after
            {
                qmp.execute(
                    "device_add",
                    &json!({"driver": "virtio-blk-pci", "id": "late", "drive": "late", "bus": "late-port", "serial": "disk"}),
                )?;
                late = None;
            }
            sleep(Duration::from_millis(50));
        }
    }
}

/// Under emulation and a loaded host, with other machines beside this one, a boot takes up to 120 s.
const DEADLINE: Duration = Duration::from_secs(420);
/// The kernel starts its first process after 15 s on an idle host, 90 s on a busy one.
const KERNEL_DEADLINE: Duration = Duration::from_secs(240);
/// Enough for every initramfs here, in MiB.
const MEMORY: u32 = 1536;
/// The last thing that we do.
const UNLOCKED: &str = "is unlocked as /dev/mapper/root";
const KERNEL_RUNS: &str = "Run /init as init process";
/// What the kernel's RCU says when its timer interrupt never came: the emulator lost it.
const TIMER_LOST: &str = "kthread timer wakeup didn't happen";
