//! The emulated machine: its parts, and QEMU's command line for them. Emulation only (no KVM), so that
//! results do not depend on the host's processor.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::artefacts::firmware::Security;
use crate::artefacts::tree::Tree;
use crate::machine::disk::{Bus, Disk, Layout};
use crate::network::card::Net;
use crate::network::wire::Wire;

/// How the machine starts.
#[derive(Debug, Clone)]
pub enum Start {
    /// The firmware finds the UKI on the EFI system partition of the disk.
    FromDisk,
    /// The host hands the UKI to the firmware, as is usual on TDX and SNP: no boot disk.
    Direct(PathBuf),
}

/// All parts of a machine.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Read-only firmware code.
    pub code: PathBuf,
    /// This machine's own variable store.
    pub variables: PathBuf,
    /// How it starts.
    pub start: Start,
    /// What the firmware insists on.
    pub security: Security,
    /// Memory in MiB.
    pub memory: u32,
    /// The disks.
    pub disks: &'a [&'a Disk],
    /// Whether changes to the disks are kept.
    pub written_through: bool,
    /// A network card: the other end of its cable, its network, and the file that records its traffic.
    pub card: Option<(Net, &'a Wire, PathBuf)>,
    /// The socket of an NBD server that is one more disk.
    pub served_disk: Option<&'a Path>,
    /// The same, plugged in later as device `late` on bus `late-port`.
    pub late_disk: Option<&'a Path>,
    /// A raw disk that the guest reads the test's scripts from.
    pub input: PathBuf,
    /// A raw disk that the guest writes its evidence to.
    pub output: PathBuf,
    /// swtpm's socket.
    pub tpm: Option<&'a str>,
    /// Where to listen for control.
    pub qmp: &'a Path,
}

impl Machine<'_> {
    /// QEMU's command; the serial console is its standard output.
    pub fn command(&self, tools: &Tree) -> Command {
        let mut qemu = match self.card {
            None => tools.command("qemu-system-x86_64"),
            Some((_, wire, _)) => wire.command(tools, "qemu-system-x86_64"),
        };
        // One processor: with two, the second one's timer gets lost in some boots on a busy host.
        qemu.args(["-accel", "tcg", "-cpu", CPU, "-smp", "1", "-m", &self.memory.to_string()])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none"])
            .args(["-global", "ICH9-LPC.disable_s3=1"])
            .args([
                "-drive",
                &format!("if=pflash,format=raw,unit=0,readonly=on,file={}", self.code.display()),
            ])
            .args(["-drive", &format!("if=pflash,format=raw,unit=1,file={}", self.variables.display())])
            .args(["-device", "pcie-root-port,id=late-port,chassis=1,slot=1"])
            .args(["-device", "virtio-rng-pci"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", self.qmp.display())]);
        match self.security {
            // Variables can be written in system management mode only.
            Security::SecureBoot => {
                qemu.args(["-machine", "q35,smm=on"]);
                qemu.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            }
            Security::None => {
                qemu.args(["-machine", "q35,smm=off"]);
            }
        }
        if let Some((net, _, record)) = &self.card {
            qemu.args(net.options(record));
        }
        if let Start::Direct(uki) = &self.start {
            qemu.arg("-kernel").arg(uki);
        }
        for (number, disk) in (1..).zip(self.disks) {
            let id = format!("disk{number}");
            drive(&mut qemu, &id, disk.path(), if self.written_through { "" } else { ",snapshot=on" });
            let Layout { bus, sector, .. } = disk.layout();
            let device = match bus {
                Bus::Virtio => "virtio-blk-pci",
                Bus::Nvme => "nvme",
                Bus::Scsi => {
                    qemu.args(["-device", &format!("virtio-scsi-pci,id=bus{number}")]);
                    &format!("scsi-hd,bus=bus{number}.0")
                }
            };
            let sectors = format!("logical_block_size={sector},physical_block_size={sector}");
            qemu.args(["-device", &format!("{device},drive={id},serial={id},bootindex={number},{sectors}")]);
        }
        if let Some(socket) = self.served_disk {
            qemu.args([
                "-drive",
                &format!("if=none,id=served,format=raw,file=nbd:unix:{}", socket.display()),
            ]);
            qemu.args(["-device", "virtio-blk-pci,drive=served,serial=served,bootindex=1"]);
        }
        if let Some(disk) = self.late_disk {
            drive(&mut qemu, "late", disk, ",snapshot=on");
        }
        drive(&mut qemu, "in", &self.input, ",readonly=on");
        drive(&mut qemu, "out", &self.output, "");
        for serial in ["in", "out"] {
            qemu.args(["-device", &format!("virtio-blk-pci,drive={serial},serial={serial}")]);
        }
        if let Some(socket) = self.tpm {
            qemu.args(["-chardev", &format!("socket,id=tpm,path={socket}")]).args([
                "-tpmdev",
                "emulator,id=tpm0,chardev=tpm",
                "-device",
                "tpm-crb,tpmdev=tpm0",
            ]);
        }
        qemu.stdout(Stdio::piped());
        qemu
    }
}

fn drive(qemu: &mut Command, id: &str, file: &Path, more: &str) {
    qemu.args(["-drive", &format!("if=none,id={id},format=raw,cache=unsafe,file={}{more}", file.display())]);
}

/// Old enough to be quick under emulation, with the instructions that a cloud guest has, and a timer that the
/// kernel need not replace when the processor idles.
const CPU: &str = "Westmere,+rdrand,+arat";
