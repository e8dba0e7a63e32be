//! The sentences that tests say about a boot. Each returns `Ok(&self)`, to go on with the next sentence, or
//! an error that shows what was there instead.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::encoding::hex;
use crate::judges::outcome::{End, Outcome};
use crate::judges::packets::Packet;
use crate::judges::remains;
use crate::judges::swtpm_log::TpmCommand;

impl Outcome {
    /// The real root's PID 1 ran, from the mapping named `root`, and powered off by itself.
    ///
    /// # Errors
    /// When it did not.
    pub fn reached_real_root(&self) -> Result<&Self> {
        let judged = || -> Result<()> {
            ensure!(self.serial.says(COLLECTED), "The real root's PID 1 did not run");
            ensure!(self.end == End::PoweredOff, "The machine ended with {:?}", self.end);
            let evidence = self.evidence()?;
            let source = evidence.root_source()?;
            ensure!(source == "/dev/mapper/root", "The root file system is {source}");
            let table = evidence.text("dm-table")?;
            let words: Vec<_> = table.split_whitespace().collect();
            ensure!(
                matches!(words.as_slice(), ["root:", "0", _, "crypt", "aes-xts-plain64", ..]),
                "The device-mapper table is {table}"
            );
            Ok(())
        };
        self.explain(judged())
    }

    /// A real root's PID 1 ran, from a mapping that encrypts nothing: the attacker's.
    ///
    /// # Errors
    /// When it did not.
    pub fn reached_a_root_in_clear(&self) -> Result<&Self> {
        let judged = || -> Result<()> {
            ensure!(self.serial.says(COLLECTED), "The real root's PID 1 did not run");
            let table = self.evidence()?.text("dm-table")?;
            ensure!(table.contains("crypt cipher_null-ecb"), "The device-mapper table is {table}");
            Ok(())
        };
        self.explain(judged())
    }

    /// The machine powered off before the real root, and never asked a person anything.
    ///
    /// # Errors
    /// When it did not end so.
    pub fn powered_off_without_asking(&self) -> Result<&Self> {
        let judged = || -> Result<()> {
            ensure!(!self.serial.says(COLLECTED), "The real root's PID 1 ran");
            for question in QUESTIONS {
                ensure!(!self.serial.says(question), "The console says `{question}`");
            }
            ensure!(self.end == End::PoweredOff, "The machine ended with {:?}", self.end);
            Ok(())
        };
        self.explain(judged())
    }

    /// Our line on the console names this reason.
    ///
    /// # Errors
    /// When it does not.
    pub fn refused_with(&self, slug: &str) -> Result<&Self> {
        let said = self.serial.says(&format!("[{slug}]"));
        self.explain(said.then_some(()).with_context(|| format!("The console does not say `[{slug}]`")))
    }

    /// PCR 15 was extended once, with the failure fence: the TPM gives no sealed secret any more.
    ///
    /// # Errors
    /// When the TPM saw something else.
    pub fn fenced_after_failure(&self) -> Result<&Self> {
        let fence = hex(&Sha256::digest(FAILURE_FENCE));
        let judged = || -> Result<()> {
            let seen: Vec<_> = self.tpm()?.extends(15).iter().map(|digest| hex(digest)).collect();
            ensure!(seen == [fence.clone()], "PCR 15 was extended with {seen:?}, not with {fence} alone");
            Ok(())
        };
        self.explain(judged())
    }

    /// PCR 15 was extended once, with this digest, and holds what follows from it.
    ///
    /// # Errors
    /// When the TPM saw, or `tpm2_pcrread` read, something else.
    pub fn fenced_with(&self, digest: &[u8]) -> Result<&Self> {
        let judged = || -> Result<()> {
            let seen: Vec<_> = self.tpm()?.extends(15).iter().map(|digest| hex(digest)).collect();
            ensure!(seen == [hex(digest)], "PCR 15 was extended with {seen:?}, not {}", hex(digest));
            let (read, replayed) = (self.evidence()?.pcr("pcrs", 15)?, hex(&self.tpm()?.replay(15)));
            ensure!(read == replayed, "PCR 15 reads {read}, but the extends lead to {replayed}");
            Ok(())
        };
        self.explain(judged())
    }

    /// The TPM holds no session any more: three forgotten ones would block it.
    ///
    /// # Errors
    /// When the TPM lists one.
    pub fn left_no_session(&self) -> Result<&Self> {
        let judged = || -> Result<()> {
            for piece in ["loaded-sessions", "saved-sessions"] {
                ensure!(self.evidence()?.text(&format!("{piece}.rc"))?.trim() == "0", "No `{piece}`");
                let sessions = self.evidence()?.text(piece)?;
                ensure!(sessions.trim().is_empty(), "The TPM holds `{piece}`: {sessions}");
            }
            Ok(())
        };
        self.explain(judged())
    }

    /// No card is up in the booted system, and nothing of the initramfs's network is left.
    ///
    /// # Errors
    /// When something is.
    pub fn left_no_network(&self) -> Result<&Self> {
        let judged = || -> Result<()> {
            let left = remains::of_a_network(self.evidence()?)?;
            ensure!(left.is_empty(), "The initramfs's network left {left:?}");
            Ok(())
        };
        self.explain(judged())
    }

    /// systemd reached multi-user.target, and knows the devices under the names it always had.
    ///
    /// # Errors
    /// When it did not.
    pub fn reached_multi_user(&self) -> Result<&Self> {
        let judged = || -> Result<()> {
            let evidence = self.evidence()?;
            for (piece, wanted) in [("pid1", "systemd"), ("target", "active"), ("root-device", "active")] {
                let text = evidence.text(piece)?;
                ensure!(text.trim() == wanted, "`{piece}` is `{}`, not `{wanted}`", text.trim());
            }
            let failed = evidence.text("failed-units")?;
            ensure!(failed.trim().is_empty(), "Units failed: {failed}");
            let uuid = evidence.blkid("UUID")?;
            let link = format!("/dev/disk/by-uuid/{uuid} l ../../dm-0");
            let devices = evidence.text("devices")?;
            for wanted in [link.as_str(), "/dev/mapper/root l ../dm-0"] {
                ensure!(
                    devices.lines().any(|line| line == wanted),
                    "No device link `{wanted}` in\n{devices}"
                );
            }
            Ok(())
        };
        self.explain(judged())
    }

    /// No sealed secret left the TPM.
    ///
    /// # Errors
    /// When an unseal succeeded, or there is no TPM log.
    pub fn unsealed_nothing(&self) -> Result<&Self> {
        let judged = || -> Result<()> {
            let unsealed = |c: &&TpmCommand| c.name() == "Unseal" && c.response_code == 0;
            let count = self.tpm()?.commands().iter().filter(unsealed).count();
            ensure!(count == 0, "The TPM unsealed {count} times");
            Ok(())
        };
        self.explain(judged())
    }

    /// Not one packet left the network card.
    ///
    /// # Errors
    /// When one did, or there was no card.
    pub fn sent_no_packet(&self) -> Result<&Self> {
        let judged = || -> Result<()> {
            let packets = self.packets.as_ref().context("The machine had no network card")?;
            let kinds: Vec<_> = packets.sent().iter().map(Packet::kind).collect();
            ensure!(kinds.is_empty(), "{} packets left the card: {kinds:?}", kinds.len());
            Ok(())
        };
        self.explain(judged())
    }

    /// Packets of this kind left the network card.
    ///
    /// # Errors
    /// When none did, or there was no card.
    pub fn sent_packets(&self, kind: &str) -> Result<&Self> {
        let judged = || -> Result<()> {
            let packets = self.packets.as_ref().context("The machine had no network card")?;
            let kinds: Vec<_> = packets.sent().iter().map(Packet::kind).collect();
            ensure!(kinds.contains(&kind), "No packet left the card that is {kind}: {kinds:?}");
            Ok(())
        };
        self.explain(judged())
    }
}

/// What the real root writes when it has collected everything.
const COLLECTED: &str = "cvm-collect: done";
/// What the fence's digest is made from when the boot must not go on.
const FAILURE_FENCE: &str = "cvm-unlock:failed";
/// What systemd, dracut, util-linux and cryptsetup print when they wait for a person.
const QUESTIONS: &[&str] = &[
    "Please enter",
    "Enter passphrase",
    "Press Enter for maintenance",
    "Give root password",
    "Entering emergency mode",
    "emergency shell",
    "sh-5",
    "bash-5",
    "login:",
    "dracut:/#",
];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::judges::serial::Serial;

    fn outcome(console: &str, end: End) -> Outcome {
        Outcome {
            name: "test".to_owned(),
            end,
            wall: Duration::ZERO,
            serial: Serial::from(console),
            tpm: None,
            packets: None,
            evidence: None,
            dir: PathBuf::new(),
        }
    }

    #[test]
    fn a_prompt_a_reset_and_a_running_root_are_no_silent_power_off() {
        let silent = "cvm-unlock: refused [luks-magic]\nreboot: Power down\n";
        assert!(outcome(silent, End::PoweredOff).powered_off_without_asking().is_ok());
        for end in [End::Reset, End::Deadline, End::Stalled, End::Other("host-signal".to_owned())] {
            assert!(outcome(silent, end).powered_off_without_asking().is_err());
        }
        for console in [
            "Please enter passphrase for disk root:",
            "Press Enter for maintenance",
            "guest login:",
            "cvm-collect: done",
        ] {
            assert!(outcome(console, End::PoweredOff).powered_off_without_asking().is_err(), "{console}");
        }
    }

    #[test]
    fn a_refusal_counts_with_its_own_slug_only() {
        let refused = outcome("cvm-unlock: refused [luks-magic]", End::PoweredOff);
        assert!(refused.refused_with("luks-magic").is_ok());
        assert!(refused.refused_with("pcr-mismatch").is_err());
        assert!(refused.refused_with("luks").is_err());
    }

    #[test]
    fn without_a_tpm_log_or_evidence_nothing_is_proved() {
        let empty = outcome("", End::PoweredOff);
        assert!(empty.reached_real_root().is_err());
        assert!(empty.fenced_after_failure().is_err());
        assert!(empty.unsealed_nothing().is_err());
        assert!(empty.left_no_session().is_err());
    }
}
