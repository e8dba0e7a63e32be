//! The TPM's commands and answers, from swtpm's log at level 20 (hexadecimal dumps of every message). The
//! emulator writes it on the host's side, so nobody in the guest can leave anything out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// All commands of one boot, in order.
#[derive(Debug, Clone)]
pub struct TpmLog(Vec<TpmCommand>);

/// One command and the code of its answer.
#[derive(Debug, Clone)]
pub struct TpmCommand {
    request: Vec<u8>,
    /// TPM_RC of the answer; 0 is success.
    pub response_code: u32,
}

impl TpmLog {
    /// Reads a log file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("Reading {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    /// All commands.
    pub fn commands(&self) -> &[TpmCommand] {
        &self.0
    }

    /// The digests that PCR `index` was extended with (SHA-256 bank, successful commands only).
    pub fn extends(&self, index: u32) -> Vec<Vec<u8>> {
        self.0.iter().filter_map(|command| command.extend_of(index)).collect()
    }

    /// What PCR `index` holds in the end: zero at power-on, then every extend.
    pub fn replay(&self, index: u32) -> Vec<u8> {
        self.extends(index)
            .iter()
            .fold(vec![0; 32], |pcr, digest| Sha256::digest([pcr, digest.clone()].concat()).to_vec())
    }

    /// The commands between the phases `enter-initrd` and `leave-initrd` of PCR 11: the unlocker's own.
    /// Left out are the kernel's (IMA, PCR 10) and those with which systemd-pcrextend starts the next phase.
    pub fn of_the_unlocker(&self) -> Self {
        let at = |phase: &str| {
            let digest = Sha256::digest(phase);
            self.0.iter().position(|c| c.extend_of(11).is_some_and(|d| d == *digest))
        };
        let from = at("enter-initrd").map_or(self.0.len(), |position| position + 1);
        let to = at("leave-initrd").map_or(self.0.len(), |position| position.saturating_sub(PCREXTEND_START));
        let commands = self.0.iter().take(to).skip(from);
        Self(commands.filter(|command| command.extend_of(10).is_none()).cloned().collect())
    }

    /// The commands before the phase `leave-initrd` of PCR 11.
    pub fn before_leaving_the_initrd(&self) -> Self {
        let phase = Sha256::digest("leave-initrd");
        let leaves = |command: &&TpmCommand| command.extend_of(11).is_some_and(|digest| digest == *phase);
        Self(self.0.iter().take_while(|command| !leaves(command)).cloned().collect())
    }

    /// How often each command was sent.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for command in &self.0 {
            *counts.entry(command.name()).or_insert(0) += 1;
        }
        counts
    }

    fn parse(text: &str) -> Self {
        let mut commands: Vec<TpmCommand> = Vec::new();
        let mut message: Option<(bool, Vec<u8>)> = None;
        for line in text.lines().chain(["end"]) {
            let line = line.trim();
            if let (Some((_, bytes)), Some(more)) = (&mut message, dump_line(line)) {
                bytes.extend(more);
                continue;
            }
            match message.take() {
                Some((true, request)) => commands.push(TpmCommand { request, response_code: u32::MAX }),
                Some((false, answer)) => {
                    if let (Some(command), Some(code)) = (commands.last_mut(), be32(&answer, 6)) {
                        command.response_code = code;
                    }
                }
                None => {}
            }
            if line.starts_with("SWTPM_IO_Read:") {
                message = Some((true, Vec::new()));
            } else if line.starts_with("SWTPM_IO_Write:") {
                message = Some((false, Vec::new()));
            }
        }
        commands.retain(|command| command.code().is_some());
        Self(commands)
    }
}

impl TpmCommand {
    /// TPM_CC.
    pub fn code(&self) -> Option<u32> {
        be32(&self.request, 6)
    }

    /// The command's name in the TPM library specification.
    pub fn name(&self) -> String {
        let code = self.code().unwrap_or_default();
        let known = NAMES.iter().find(|(value, _)| *value == code);
        known.map_or_else(|| format!("{code:#05x}"), |(_, name)| (*name).to_owned())
    }

    /// The digest, if this is a successful extend of the PCR's SHA-256 bank.
    fn extend_of(&self, index: u32) -> Option<Vec<u8>> {
        let is_extend = self.code() == Some(PCR_EXTEND) && self.response_code == 0;
        if !is_extend || be32(&self.request, 10) != Some(index) {
            return None;
        }
        let authorisation = usize::try_from(be32(&self.request, 14)?).ok()?;
        let mut digests = self.request.get(18_usize.checked_add(authorisation)?..)?;
        for _ in 0..be32(digests, 0)? {
            let algorithm = digests.get(4..6)?;
            let size = if algorithm == SHA1 { 20 } else { 32 };
            let digest = digests.get(6..6 + size)?;
            if algorithm == SHA256 {
                return Some(digest.to_vec());
            }
            // The count in front is skipped with the first entry only; keep its four bytes' place.
            digests = digests.get(2 + size..)?;
        }
        None
    }
}

fn dump_line(line: &str) -> Option<Vec<u8>> {
    if line.is_empty() {
        return None;
    }
    line.split(' ')
        .map(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok()).flatten())
        .collect()
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// GetRandom, Startup, 4 x GetCapability, TestParms, PCR_Read: systemd 257, seen at swtpm.
const PCREXTEND_START: usize = 8;
const PCR_EXTEND: u32 = 0x182;
const SHA1: [u8; 2] = [0x00, 0x04];
const SHA256: [u8; 2] = [0x00, 0x0b];

/// TPM 2.0 Library, Part 2, 6.5.2 (TPM_CC).
const NAMES: &[(u32, &str)] = &[
    (0x11f, "NV_UndefineSpaceSpecial"),
    (0x120, "EvictControl"),
    (0x121, "HierarchyControl"),
    (0x129, "HierarchyChangeAuth"),
    (0x12a, "NV_DefineSpace"),
    (0x131, "CreatePrimary"),
    (0x137, "NV_Write"),
    (0x143, "SelfTest"),
    (0x144, "Startup"),
    (0x145, "Shutdown"),
    (0x14e, "NV_Read"),
    (0x153, "Create"),
    (0x157, "Load"),
    (0x15e, "Unseal"),
    (0x161, "ContextLoad"),
    (0x162, "ContextSave"),
    (0x165, "FlushContext"),
    (0x167, "LoadExternal"),
    (0x169, "NV_ReadPublic"),
    (0x16a, "PolicyAuthorize"),
    (0x173, "ReadPublic"),
    (0x176, "StartAuthSession"),
    (0x177, "VerifySignature"),
    (0x17a, "GetCapability"),
    (0x17b, "GetRandom"),
    (0x17d, "Hash"),
    (0x17e, "PCR_Read"),
    (0x17f, "PolicyPCR"),
    (0x181, "ReadClock"),
    (0x182, "PCR_Extend"),
    (0x189, "PolicyGetDigest"),
    (0x18a, "TestParms"),
    (0x18c, "PolicyPassword"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::hex;

    /// swtpm 0.7.1's log of `tpm2_pcrextend 15:sha256=$(printf cvm | sha256sum)` (part of it).
    const EXTEND: &str = "\
 Ctrl Cmd: length 5\n 00 00 00 05 00 \n Ctrl Rsp: length 4\n 00 00 00 00 \n SWTPM_IO_Read: length 65\n \
80 02 00 00 00 41 00 00 01 82 00 00 00 0F 00 00 \n 00 09 40 00 00 09 00 00 00 00 00 00 00 00 01 00 \n \
0B D1 EC 56 4C 45 EE 4E 2E FE CB EE C7 2F F5 B0 \n C1 59 38 92 46 4A 15 FD AC 34 18 F3 4A F9 6F E2 \n C5 \n \
SWTPM_IO_Write: length 19\n 80 02 00 00 00 13 00 00 00 00 00 00 00 00 00 00 \n 01 00 00 \n";

    #[test]
    fn an_extend_is_seen_and_its_replay_is_what_tpm2_pcrread_printed() {
        let log = TpmLog::parse(EXTEND);
        assert_eq!(log.commands().len(), 1);
        assert_eq!(log.extends(15), [Sha256::digest("cvm").to_vec()]);
        assert_eq!(hex(&log.replay(15)), "c73e5da2d58ac66e99673a70fbba4e3b6c5d17e0420a2c5eb25b866c48ab9bdc");
        assert_eq!(log.extends(11), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_comes_after_the_initrd_is_left_out() {
        let extend = |pcr: &str, text: &str| {
            let digest = hex(&Sha256::digest(text)).to_uppercase();
            let bytes: Vec<_> = (0..64).step_by(2).filter_map(|at| digest.get(at..at + 2)).collect();
            format!(
                "SWTPM_IO_Read: length 65\n80 02 00 00 00 41 00 00 01 82 00 00 00 {pcr} 00 00\n00 09 40 00 00 09 00 00 \
                 00 00 00 00 00 00 01 00\n0B {}\nSWTPM_IO_Write: length 10\n80 02 00 00 00 0A 00 00 00 00\n",
                bytes.join(" ")
            )
        };
        let boot = [("0B", "enter-initrd"), ("0F", "key"), ("0B", "leave-initrd"), ("0B", "sysinit")];
        let log = TpmLog::parse(&boot.map(|(pcr, text)| extend(pcr, text)).concat());
        assert_eq!(log.extends(11).len(), 3);
        let initrd = log.before_leaving_the_initrd();
        assert_eq!(initrd.extends(11), [Sha256::digest("enter-initrd").to_vec()]);
        assert_eq!(initrd.extends(15), [Sha256::digest("key").to_vec()]);
    }

    #[test]
    fn a_refused_extend_does_not_count() {
        let refused = EXTEND.replace("13 00 00 00 00 00 00 00 00", "13 00 00 01 01 00 00 00 00");
        let log = TpmLog::parse(&refused);
        assert_eq!(log.commands().first().map(|c| c.response_code), Some(0x101));
        assert!(log.extends(15).is_empty());
    }

    #[test]
    fn an_empty_or_foreign_log_holds_no_commands() {
        for text in ["", "garbage\n", " SWTPM_IO_Read: length 65\n", " SWTPM_IO_Read: length 2\n 80 01 \n"] {
            assert!(TpmLog::parse(text).commands().is_empty());
        }
    }
}
