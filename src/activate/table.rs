//! The intended dm-crypt table, and its comparison with the live one.

use std::fmt;

use crate::discover::Candidate;
use crate::format::luks::{Flag, Snapshot};
use crate::sys::dm::Table;

/// The intended mapping, from validated values only.
#[derive(Debug)]
pub(super) struct Intended {
    /// 512-byte sectors.
    length: u64,
    key_size: u32,
    /// `MAJOR:MINOR` of the partition.
    device: String,
    /// First sector (512 bytes) of the payload on the partition.
    offset: u64,
    /// Encryption sector size in bytes.
    sector_size: u32,
    /// dm-crypt options that the header requests and the configuration allows.
    options: Vec<&'static str>,
    uuid: String,
    read_only: bool,
}

impl Intended {
    pub(super) fn new(snapshot: &Snapshot, candidate: &Candidate) -> Self {
        let segment = snapshot.segment();
        Self {
            length: snapshot.data_bytes() / SECTOR,
            key_size: segment.cipher.key_size(),
            device: format!("{}:{}", candidate.device.major, candidate.device.minor),
            offset: segment.offset / SECTOR,
            sector_size: segment.sector_size,
            options: snapshot.flags().iter().filter_map(dm_option).collect(),
            uuid: format!("CRYPT-LUKS2-{}-{}", snapshot.uuid().to_string().replace('-', ""), super::NAME),
            read_only: candidate.read_only,
        }
    }

    /// Compares field by field, and returns the first difference.
    pub(super) fn compare(&self, live: &Table) -> Result<(), Difference> {
        let same = |what, intended: &dyn fmt::Display, found: &dyn fmt::Display| {
            let (intended, found) = (intended.to_string(), found.to_string());
            if intended == found { Ok(()) } else { Err(Difference { what, intended, found }) }
        };
        same("number of targets", &1, &live.targets.len())?;
        same("DM UUID", &self.uuid, &live.uuid)?;
        same("read-only flag", &self.read_only, &live.read_only)?;
        // The line above has checked that there is exactly one.
        for target in &live.targets {
            same("start", &0, &target.start)?;
            same("length", &self.length, &target.length)?;
            same("target", &"crypt", &target.kind)?;
            let mut words = target.parameters.split(' ');
            let mut next = || words.next().unwrap_or_default();
            same("cipher", &"aes-xts-plain64", &next())?;
            // The key itself must not be compared as text or shown, so only its form and size are compared.
            same("key size", &self.key_size, &key_size(next()))?;
            same("IV offset", &0, &next())?;
            same("device", &self.device, &next())?;
            same("offset", &self.offset, &next())?;
            let mut found: Vec<&str> = words.skip(1).collect();
            found.sort_unstable();
            same("options", &self.sorted_options(), &found.join(" "))?;
        }
        Ok(())
    }

    fn sorted_options(&self) -> String {
        let mut options: Vec<String> = self.options.iter().map(|option| (*option).to_owned()).collect();
        if u64::from(self.sector_size) != SECTOR {
            options.push(format!("sector_size:{}", self.sector_size));
        }
        options.sort_unstable();
        options.join(" ")
    }
}

/// The size in bytes of the key in a dm-crypt table: `:64:logon:cryptsetup:…` names a key in the kernel's
/// keyring, anything else is the key in hexadecimal (Documentation/admin-guide/device-mapper/dm-crypt.rst).
fn key_size(word: &str) -> u32 {
    match word.strip_prefix(':') {
        Some(reference) => reference.split(':').next().and_then(|size| size.parse().ok()).unwrap_or(0),
        None => u32::try_from(word.len() / 2).unwrap_or(0),
    }
}

/// The dm-crypt option for a LUKS2 persistent flag. `None` for the flag of dm-integrity, which we do not map.
fn dm_option(flag: Flag) -> Option<&'static str> {
    match flag {
        Flag::AllowDiscards => Some("allow_discards"),
        Flag::HighPriority => Some("high_priority"),
        Flag::NoJournal => None,
        Flag::NoReadWorkqueue => Some("no_read_workqueue"),
        Flag::NoWriteWorkqueue => Some("no_write_workqueue"),
        Flag::SameCpuCrypt => Some("same_cpu_crypt"),
        Flag::SubmitFromCryptCpus => Some("submit_from_crypt_cpus"),
    }
}

/// The difference between the two tables. Never contains a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: intended {intended}, found {found}")]
pub struct Difference {
    what: &'static str,
    intended: String,
    found: String,
}

/// Device-mapper tables count in sectors of 512 bytes, whatever the device's sector size.
const SECTOR: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dm::Target;
    use zeroize::Zeroizing;

    const PARAMETERS: &str = "aes-xts-plain64 :64:logon:cryptsetup:6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1-d0 0 253:2 32768 1 sector_size:4096";
    const UUID: &str = "CRYPT-LUKS2-6fd0f5a46b5e4d2b9c5b0d0f3f4ad0b1-root";

    fn intended() -> Intended {
        Intended {
            length: 1_343_488,
            key_size: 64,
            device: "253:2".to_owned(),
            offset: 32768,
            sector_size: 4096,
            options: Vec::new(),
            uuid: UUID.to_owned(),
            read_only: false,
        }
    }

    fn live(parameters: &str) -> Table {
        let parameters = Zeroizing::new(parameters.to_owned());
        let target = Target { start: 0, length: 1_343_488, kind: "crypt".to_owned(), parameters };
        Table { minor: 0, uuid: UUID.to_owned(), read_only: false, targets: vec![target] }
    }

    #[test]
    fn the_table_that_a_real_boot_showed_is_the_intended_one() {
        assert_eq!(intended().compare(&live(PARAMETERS)), Ok(()));
    }

    #[test]
    fn each_field_that_the_kernel_would_have_otherwise_is_named() {
        for (from, to, what) in [
            ("aes-xts-plain64", "cipher_null-ecb", "cipher"),
            (":64:", ":32:", "key size"),
            (" 0 253:2", " 8 253:2", "IV offset"),
            ("253:2", "253:3", "device"),
            ("32768", "0", "offset"),
            ("1 sector_size:4096", "2 allow_discards sector_size:4096", "options"),
            (" 1 sector_size:4096", "", "options"),
        ] {
            let found = intended().compare(&live(&PARAMETERS.replace(from, to))).unwrap_err();
            assert_eq!(found.what, what, "{from} -> {to}");
        }
    }

    #[test]
    fn a_key_in_the_table_is_measured_and_not_shown() {
        let hex = "ab".repeat(32);
        let parameters =
            PARAMETERS.replace(":64:logon:cryptsetup:6fd0f5a4-6b5e-4d2b-9c5b-0d0f3f4ad0b1-d0", &hex);
        let text = intended().compare(&live(&parameters)).unwrap_err().to_string();
        assert!(text.contains("key size") && !text.contains("abab"));
    }
}
