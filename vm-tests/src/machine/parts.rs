//! The files and sockets of one machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::artefacts::firmware::{Security, Variable};
use crate::artefacts::tree::output_of;
use crate::artefacts::workbench::Workbench;

/// The files of one attempt.
#[derive(Debug)]
pub struct Parts {
    /// The firmware's variable store.
    pub variables: PathBuf,
    /// A disk with the files for the guest.
    pub input: PathBuf,
    /// A disk for the guest's evidence.
    pub output: PathBuf,
    /// swtpm's log.
    pub tpm_log: PathBuf,
    /// The recording of the network card.
    pub packets: PathBuf,
    /// swtpm's socket.
    pub tpm_socket: PathBuf,
    /// QEMU's control socket.
    pub qmp_socket: PathBuf,
}

impl Parts {
    /// Lays them out in `dir`, in place of those of an earlier attempt.
    ///
    /// # Errors
    /// When a file cannot be written, or there are too many for the guest.
    pub fn lay_out(
        workbench: &Workbench,
        dir: &Path,
        (security, variable): (Security, Option<&Variable>),
        files: &[(String, Vec<u8>)],
    ) -> Result<Self> {
        let Workbench { cache, tools, firmware, .. } = workbench;
        let parts = Self {
            variables: dir.join("vars.fd"),
            input: dir.join("in.img"),
            output: dir.join("out.img"),
            tpm_log: dir.join("swtpm.log"),
            packets: dir.join("packets.pcap"),
            tpm_socket: cache.socket("tpm"),
            qmp_socket: cache.socket("qmp"),
        };
        for left in [&parts.tpm_log, &parts.output, &parts.packets] {
            if left.exists() {
                fs::remove_file(left)?;
            }
        }
        fs::copy(firmware.variables(tools, security), &parts.variables)?;
        if let Some(variable) = variable {
            variable.set(tools, &parts.variables)?;
        }
        fs::File::create(&parts.output)?.set_len(OUTPUT_SIZE)?;
        let scripts = dir.join("in");
        fs::create_dir_all(&scripts)?;
        for (name, content) in files {
            fs::write(scripts.join(name), content)?;
        }
        let mut tar = Command::new("tar");
        output_of(tar.arg("-cf").arg(&parts.input).arg("-C").arg(&scripts).arg("."), "tar")?;
        ensure!(parts.input.metadata()?.len() <= INPUT_SIZE, "Too many files for the guest");
        fs::File::options().write(true).open(&parts.input)?.set_len(INPUT_SIZE)?;
        Ok(parts)
    }
}

const INPUT_SIZE: u64 = 128 << 20;
const OUTPUT_SIZE: u64 = 32 << 20;
