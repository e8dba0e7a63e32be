//! The fence: extends PCR 15 so that a sealed secret can be used once per boot. [`Unfenced`] proves that PCR
//! 15 was zero before, [`Fenced`] that it holds the measurement of the volume key afterwards.
//!
//! Every policy that we enrol requires `PCR 15 = zero`, so nobody can unseal again in a fenced boot. The
//! value is the one that systemd measures, so that a remote verifier can tell whose root is running. The TPM
//! itself is not verified: a fake one passes this and every other local check.

pub mod measurement_log;
pub mod waiver;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use thiserror::Error;

use crate::base::error::failures;
use crate::base::pcr::{Bank, Pcr, PcrMask};
use crate::base::secret::VolumeKey;
use crate::base::uuid::Uuid;
use crate::tpm::readings::Readings;
use crate::tpm::{Banks, Tpm, TpmError};
use measurement_log::{LogError, MeasurementLog, Record};
use waiver::Waiver;

/// Proof that PCR 15 was zero in every bank that we support.
#[derive(Debug)]
pub struct Unfenced {
    banks: Vec<Bank>,
}

/// Proof that PCR 15 was extended in every active bank, or that the configuration waives the TPM.
#[derive(Debug)]
pub struct Fenced {
    digests: Vec<(Bank, Vec<u8>)>,
    unlogged: Option<LogError>,
}

impl Unfenced {
    /// Checks the TPM at entry, with one command.
    ///
    /// # Errors
    /// PCR 15 was extended before us, so nothing may be unsealed.
    pub fn check(tpm: &mut dyn Tpm) -> Result<Self, FenceError> {
        Self::check_and_read(tpm, &[]).map(|(unfenced, _)| unfenced)
    }

    /// As [`Unfenced::check`]; also returns the values of `also` that the same command yields.
    ///
    /// # Errors
    /// As [`Unfenced::check`].
    pub fn check_and_read(
        tpm: &mut dyn Tpm,
        also: &[(Bank, PcrMask)],
    ) -> Result<(Self, Readings), FenceError> {
        let found = tpm.read_everywhere(Pcr::FENCE, also)?;
        let mut banks = Vec::new();
        // Raising the fence refuses a bank without PCR 15.
        for (bank, value) in found.iter().filter_map(|found| Some((found.bank(), found.get(Pcr::FENCE)?))) {
            if value.iter().any(|byte| *byte != 0) {
                return Err(FenceError::NotZero(bank));
            }
            banks.push(bank);
        }
        if banks.is_empty() {
            return Err(FenceError::NoBank);
        }
        Ok((Self { banks }, found.into_iter().collect()))
    }

    /// The active banks.
    #[must_use]
    pub fn banks(&self) -> &[Bank] {
        &self.banks
    }

    /// Raises the fence: extends PCR 15 with the measurement of `key`, the volume key of the volume `uuid`
    /// that will be mapped as `name`, in all banks with one command, and logs it as systemd does. Asks the
    /// TPM for its banks first.
    ///
    /// # Errors
    /// The TPM's, or a bank is active that we cannot fence or did not see at entry; nothing may be mapped
    /// then. A failure to log is not an error; [`Fenced::unlogged`] returns it.
    pub fn raise(
        self,
        tpm: &mut dyn Tpm,
        key: &VolumeKey,
        name: &str,
        uuid: &Uuid,
        log: &MeasurementLog,
    ) -> Result<Fenced, FenceError> {
        self.confirm_banks(tpm)?;
        let description = description(name, uuid);
        let digests: Vec<(Bank, Vec<u8>)> =
            self.banks.iter().map(|bank| (*bank, measurement(*bank, key, &description))).collect();
        let record = Record {
            pcr: Pcr::FENCE,
            digests: &digests,
            description: &description,
            event: Some("volume-key"),
        };
        let unlogged = extend_and_log(tpm, &record, log)?;
        Ok(Fenced { digests, unlogged })
    }

    /// Checks that the banks to fence are all active banks.
    fn confirm_banks(&self, tpm: &mut dyn Tpm) -> Result<(), FenceError> {
        let Banks { active, unknown, without_fence } = tpm.banks()?;
        match (unknown.first(), without_fence.first()) {
            (Some(algorithm), _) => Err(FenceError::BankUnknown(*algorithm)),
            (None, Some(bank)) => Err(FenceError::BankPartial(*bank)),
            (None, None) if active != self.banks => Err(FenceError::BanksChanged),
            (None, None) => Ok(()),
        }
    }
}

impl Fenced {
    /// Without a TPM there is no PCR; only the key broker can make sure that the key is released once.
    #[must_use]
    pub const fn waived(_waiver: Waiver) -> Self {
        Self { digests: Vec::new(), unlogged: None }
    }

    /// The digests that PCR 15 was extended with; empty if the TPM is waived.
    #[must_use]
    pub fn digests(&self) -> &[(Bank, Vec<u8>)] {
        &self.digests
    }

    /// Why the measurement log lacks the record, if it does. A verifier replays the log, so it must be told.
    #[must_use]
    pub const fn unlogged(&self) -> Option<&LogError> {
        self.unlogged.as_ref()
    }
}

/// Fences a failed boot: extends PCR 15 with the digest of `cvm-unlock:failed`, in every bank that we can
/// compute. This records the failure and keeps later code from unsealing.
///
/// Always extends, whatever the PCR holds: a second digest on top of the first does no harm. Returns why the
/// measurement log lacks the record, if it does.
///
/// # Errors
/// The TPM's.
pub fn raise_for_failure(tpm: &mut dyn Tpm, log: &MeasurementLog) -> Result<Option<LogError>, FenceError> {
    let digests = failure(tpm)?;
    Ok(extend_for_failure(tpm, &digests, log)?)
}

/// As [`raise_for_failure`], unless PCR 15 already holds exactly the failure's digest in all these banks.
/// When in doubt, it extends.
///
/// # Errors
/// The TPM's.
pub fn ensure_for_failure(tpm: &mut dyn Tpm, log: &MeasurementLog) -> Result<Option<LogError>, FenceError> {
    let digests = failure(tpm)?;
    match holds_only(tpm, &digests) {
        true => Ok(None),
        false => Ok(extend_for_failure(tpm, &digests, log)?),
    }
}

/// The failure's measurement, in every bank that we can compute.
fn failure(tpm: &mut dyn Tpm) -> Result<Vec<(Bank, Vec<u8>)>, FenceError> {
    let active = tpm.banks()?.active;
    if active.is_empty() {
        return Err(FenceError::NoBank);
    }
    Ok(active.into_iter().map(|bank| (bank, digest(bank, FAILED.as_bytes()))).collect())
}

fn extend_for_failure(
    tpm: &mut dyn Tpm,
    digests: &[(Bank, Vec<u8>)],
    log: &MeasurementLog,
) -> Result<Option<LogError>, TpmError> {
    extend_and_log(tpm, &Record { pcr: Pcr::FENCE, digests, description: FAILED, event: None }, log)
}

/// Whether PCR 15 was extended with exactly these digests since power-on. `false` if the TPM does not answer.
fn holds_only(tpm: &mut dyn Tpm, digests: &[(Bank, Vec<u8>)]) -> bool {
    let Ok(found) = tpm.read_everywhere(Pcr::FENCE, &[]) else { return false };
    digests.iter().all(|(bank, extended)| {
        let value = digest(*bank, &[vec![0; bank.digest_size()].as_slice(), extended].concat());
        let found = found.iter().find(|values| values.bank() == *bank);
        found.and_then(|values| values.get(Pcr::FENCE)).is_some_and(|found| *found == value)
    })
}

/// Extends the PCR and logs `record`. The log is marked dirty before the TPM is used and clean after the
/// record is written, as systemd does, so that a reader can tell an incomplete log.
fn extend_and_log(
    tpm: &mut dyn Tpm,
    record: &Record<'_>,
    log: &MeasurementLog,
) -> Result<Option<LogError>, TpmError> {
    let pending = log.begin();
    tpm.extend(record.pcr, record.digests)?;
    Ok(pending.and_then(|pending| pending.append(record)).err())
}

/// The description that is measured with the volume key: `cryptsetup:NAME:UUID`, the name escaped as by
/// systemd's `xescape(name, ":")`.
fn description(name: &str, uuid: &Uuid) -> String {
    let mut text = String::from("cryptsetup:");
    for byte in name.bytes() {
        if matches!(byte, b' '..=b'~') && !matches!(byte, b':' | b'\\') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push_str(&format!(":{uuid}"));
    text
}

/// `HMAC-BANK(volume key, description)`: systemd, `src/cryptsetup/cryptsetup.c`, `measure_volume_key`.
fn measurement(bank: Bank, key: &VolumeKey, description: &str) -> Vec<u8> {
    match bank {
        Bank::Sha1 => hmac::<Hmac<Sha1>>(key, description),
        Bank::Sha256 => hmac::<Hmac<Sha256>>(key, description),
        Bank::Sha384 => hmac::<Hmac<Sha384>>(key, description),
        Bank::Sha512 => hmac::<Hmac<Sha512>>(key, description),
    }
}

fn hmac<M: Mac + KeyInit>(key: &VolumeKey, message: &str) -> Vec<u8> {
    // HMAC accepts keys of any length (RFC 2104, 2), so the error cannot occur; an empty digest would be
    // refused.
    <M as KeyInit>::new_from_slice(key.expose())
        .map(|mac| mac.chain_update(message.as_bytes()).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn digest(bank: Bank, bytes: &[u8]) -> Vec<u8> {
    match bank {
        Bank::Sha1 => Sha1::digest(bytes).to_vec(),
        Bank::Sha256 => Sha256::digest(bytes).to_vec(),
        Bank::Sha384 => Sha384::digest(bytes).to_vec(),
        Bank::Sha512 => Sha512::digest(bytes).to_vec(),
    }
}

/// Why there is no fence.
#[derive(Debug, Error)]
pub enum FenceError {
    /// Something was measured into PCR 15 before us in this boot.
    #[error("PCR 15 is not zero in bank {0}: a root was unlocked in this boot already")]
    NotZero(Bank),
    /// An active bank (`TPM_ALG_ID`) that we cannot fence.
    #[error("PCR bank {0:#06x} is active but unknown")]
    BankUnknown(u16),
    /// An active bank without PCR 15.
    #[error("PCR bank {0} is active but has no PCR 15")]
    BankPartial(Bank),
    /// The active banks are not those in which the TPM returned PCR 15.
    #[error("Active PCR banks are not those that were found at entry")]
    BanksChanged,
    /// No bank to fence.
    #[error("TPM has no active PCR bank")]
    NoBank,
    /// The TPM failed.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

failures! { FenceError:
    Self::NotZero(_) => "pcr15-not-zero", Refused,
        "reboot; kexec and kdump kernels cannot unlock in a fenced boot";
    Self::BankUnknown(_) => "bank-unknown", Refused, "deactivate the bank in the firmware's set-up";
    Self::BankPartial(_) => "bank-partial", Refused, "deactivate the bank in the firmware's set-up";
    Self::BanksChanged => "banks-changed", Refused, "";
    Self::NoBank => "bank-none", Refused, "activate the SHA-256 bank in the firmware's set-up";
    Self::Tpm(error) => from error;
}

/// What the failure fence measures.
const FAILED: &str = "cvm-unlock:failed";

#[cfg(test)]
mod tests;
