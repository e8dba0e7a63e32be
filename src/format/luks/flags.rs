//! Persistent activation flags (`config.flags`): dm-crypt options in the untrusted header. A flag is accepted
//! only if the measured configuration allows it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A persistent flag of LUKS2 (on-disk format specification 1.1.4, table 3; cryptsetup `--persistent`), in
/// alphabetical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// Passes discards to the disk, which shows the host which sectors are free.
    AllowDiscards,
    /// Uses high-priority workqueues.
    HighPriority,
    /// Uses `dm-integrity` without its journal.
    NoJournal,
    /// Decrypts reads in the caller's context.
    NoReadWorkqueue,
    /// Encrypts writes in the caller's context.
    NoWriteWorkqueue,
    /// Encrypts on the CPU that submitted the request.
    SameCpuCrypt,
    /// Uses no separate thread for writes.
    SubmitFromCryptCpus,
}

/// A set of flags, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagSet(BTreeSet<Flag>);

impl Flag {
    /// All flags.
    pub const ALL: [Self; 7] = [
        Self::AllowDiscards,
        Self::HighPriority,
        Self::NoJournal,
        Self::NoReadWorkqueue,
        Self::NoWriteWorkqueue,
        Self::SameCpuCrypt,
        Self::SubmitFromCryptCpus,
    ];

    /// The name in the header and in our configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllowDiscards => "allow-discards",
            Self::NoJournal => "no-journal",
            Self::NoReadWorkqueue => "no-read-workqueue",
            Self::NoWriteWorkqueue => "no-write-workqueue",
            Self::SameCpuCrypt => "same-cpu-crypt",
            Self::SubmitFromCryptCpus => "submit-from-crypt-cpus",
            Self::HighPriority => "high_priority",
        }
    }

    /// The flag by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.name() == name)
    }
}

impl FlagSet {
    /// Whether `flag` is in the set.
    #[must_use]
    pub fn contains(&self, flag: Flag) -> bool {
        self.0.contains(&flag)
    }

    /// Whether the set has no flag.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The flags in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = Flag> + '_ {
        self.0.iter().copied()
    }

    /// Whether every flag of this set is in `allowed`.
    #[must_use]
    pub fn is_within(&self, allowed: &Self) -> bool {
        self.0.is_subset(&allowed.0)
    }
}

impl FromIterator<Flag> for FlagSet {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        Self(flags.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags_are_inverse() {
        for flag in Flag::ALL {
            assert_eq!(Flag::from_name(flag.name()), Some(flag));
        }
        assert_eq!(Flag::from_name("allow_discards"), None);
        assert!(Flag::ALL.is_sorted() && Flag::ALL.is_sorted_by_key(|flag| flag.name()));
    }

    #[test]
    fn only_a_subset_is_within() {
        let one: FlagSet = [Flag::AllowDiscards].into_iter().collect();
        let two: FlagSet = [Flag::AllowDiscards, Flag::NoJournal].into_iter().collect();
        assert!(one.is_within(&two) && FlagSet::default().is_within(&one));
        assert!(!two.is_within(&one) && !one.is_within(&FlagSet::default()));
    }
}
