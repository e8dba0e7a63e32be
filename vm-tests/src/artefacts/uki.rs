//! Unified kernel images, signed with the test's own key, and the value that PCR 11 will have in the initrd,
//! computed by systemd's tools.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::artefacts::cache::{Artefact, Key};
use crate::artefacts::firmware::Firmware;
use crate::artefacts::initramfs::Initramfs;
use crate::artefacts::policy::PolicyKey;
use crate::artefacts::tree::Tree;
use crate::artefacts::workbench::Workbench;

/// A signed UKI.
#[derive(Debug, Clone)]
pub struct Uki(Artefact);

impl Uki {
    /// Builds and signs a UKI. With a `signer` its `.pcrsig` section has that key's signature of PCR 11 in
    /// the initrd (of no other phase), which systemd-stub leaves in `/.extra`.
    ///
    /// # Errors
    /// When ukify or sbsign fails.
    pub fn new(
        Workbench { cache, tools, firmware, .. }: &Workbench,
        initramfs: &Initramfs,
        command_line: &str,
        signer: Option<&PolicyKey>,
    ) -> Result<Self> {
        let key =
            Key::of("uki 2").artefact(firmware.artefact()).artefact(initramfs.artefact()).and(command_line);
        let key = match signer {
            None => key,
            Some(signer) => key.and("signed 1").artefact(signer.artefact()),
        };
        let artefact = cache.artefact("uki", key, |path| {
            let parts = Parts {
                kernel: initramfs.kernel(),
                initrd: initramfs.initrd(),
                stub: initramfs.stub(),
                guest: initramfs.guest(),
                version: initramfs.version()?,
                command_line,
                signer,
            };
            parts.build(tools, firmware, path)
        })?;
        Ok(Self(artefact))
    }

    /// A UKI whose initrd is one static shell: it prints all PCRs and powers off. The policy's
    /// PCR 7 is taken from it, as it depends on firmware and signer only.
    ///
    /// # Errors
    /// When ukify or sbsign fails.
    pub fn recorder(workbench: &Workbench, kernel: &Initramfs) -> Result<Self> {
        let Workbench { cache, tools, firmware, .. } = workbench;
        let key = Key::of("recorder 1")
            .artefact(firmware.artefact())
            .artefact(kernel.artefact())
            .and(RECORDER_INIT);
        let artefact = cache.artefact("recorder", key, |path| {
            let initrd = path.join("initrd.img");
            fs::write(path.join("init"), RECORDER_INIT)?;
            tools.run("sh", ["-c".as_ref(), RECORDER_INITRD.as_ref(), "sh".as_ref(), path.as_os_str()])?;
            let parts = Parts {
                kernel: kernel.kernel(),
                initrd,
                stub: kernel.stub(),
                guest: kernel.guest(),
                version: kernel.version()?,
                command_line: COMMAND_LINE,
                signer: None,
            };
            parts.build(tools, firmware, path)
        })?;
        Ok(Self(artefact))
    }

    /// The signed executable.
    pub fn path(&self) -> PathBuf {
        self.0.file("uki.efi")
    }

    /// PCR 11 (SHA-256, hexadecimal) in the initrd, after `enter-initrd`.
    ///
    /// # Errors
    /// When the artefact is damaged.
    pub fn pcr11(&self) -> Result<String> {
        let text = fs::read_to_string(self.0.file("pcr11"))?;
        // One line for each phase of the boot; the first is the initrd's.
        let value = text.lines().next().and_then(|line| line.strip_prefix("11:sha256="));
        value.map(str::to_owned).with_context(|| format!("No PCR 11 in `{text}`"))
    }

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.0
    }
}

struct Parts<'a> {
    kernel: PathBuf,
    initrd: PathBuf,
    stub: Option<PathBuf>,
    guest: &'a Tree,
    version: String,
    command_line: &'a str,
    signer: Option<&'a PolicyKey>,
}

impl Parts<'_> {
    fn build(&self, tools: &Tree, firmware: &Firmware, path: &Path) -> Result<()> {
        let unsigned = path.join("unsigned.efi");
        let mut signing = Vec::new();
        if let Some(signer) = self.signer {
            signing.push(format!("--pcr-private-key={}", signer.private().display()));
            signing.push(format!("--pcr-public-key={}", signer.public().display()));
            signing.push("--phases=enter-initrd".to_owned());
        }
        let stub = self.stub.as_deref().unwrap_or(Path::new(STUB));
        let measured = tools.run(
            "ukify",
            [
                "build".to_owned(),
                format!("--linux={}", self.kernel.display()),
                format!("--initrd={}", self.initrd.display()),
                format!("--uname={}", self.version),
                format!("--cmdline={}", self.command_line),
                "--os-release=@/etc/os-release".to_owned(),
                format!("--stub={}", stub.display()),
                "--measure".to_owned(),
                "--pcr-banks=sha256".to_owned(),
                format!("--output={}", unsigned.display()),
            ]
            .into_iter()
            .chain(signing),
        )?;
        let older = self.stub.as_deref().map(older_than_uname).transpose()?.unwrap_or(false);
        let measured = if older { self.measured_by_the_guest(tools, path)? } else { measured };
        fs::write(path.join("pcr11"), measured)?;
        firmware.sign(tools, &unsigned, &path.join("uki.efi"))?;
        fs::remove_file(unsigned)?;
        Ok(())
    }

    /// PCR 11 with a stub that measures fewer sections than ukify writes today.
    fn measured_by_the_guest(&self, tools: &Tree, path: &Path) -> Result<String> {
        let command_line = path.join("cmdline");
        fs::write(&command_line, self.command_line)?;
        let os_release = path.join("os-release");
        fs::copy(tools.root().join("usr/lib/os-release"), &os_release)?;
        self.guest.run(
            "/usr/lib/systemd/systemd-measure",
            [
                "calculate".to_owned(),
                "--bank=sha256".to_owned(),
                "--phase=enter-initrd".to_owned(),
                format!("--linux={}", self.kernel.display()),
                format!("--osrel={}", os_release.display()),
                format!("--cmdline={}", command_line.display()),
                format!("--initrd={}", self.initrd.display()),
            ],
        )
    }
}

/// Whether the stub is systemd's of version 252 or older, which does not know (and measure) all sections.
fn older_than_uname(stub: &Path) -> Result<bool> {
    Ok(!fs::read(stub)?.windows(UNAME.len()).any(|window| window == UNAME))
}

/// Fixed and measured; no `root=`. The second half saves time under emulation.
pub const COMMAND_LINE: &str = "console=ttyS0,115200 panic=10 rw \
     mitigations=off audit=0 8250.nr_uarts=1 systemd.show_status=0";

/// A section that systemd-stub measures from version 253 on.
const UNAME: &[u8] = b".uname";
/// The tools' own, for guests that have none.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

const RECORDER_INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /sys /dev /proc
busybox mount -t devtmpfs dev /dev
busybox mount -t sysfs sys /sys
busybox mount -t proc proc /proc
exec > /dev/ttyS0 2>&1
for pcr in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    echo "recorded $pcr $(busybox cat /sys/class/tpm/tpm0/pcr-sha256/$pcr)"
done
busybox poweroff -f
"#;

const RECORDER_INITRD: &str = r#"set -e
cd "$1"; mkdir -p tree/bin
cp /bin/busybox tree/bin/; cp init tree/init; chmod 755 tree/init
(cd tree && find . | cpio --quiet -o -H newc) > initrd.img
rm -r tree init
"#;
