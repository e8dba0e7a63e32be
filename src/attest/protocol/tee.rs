//! Names of platforms in the protocol.

use std::fmt;

use super::Version;

/// A platform that produces evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tee {
    /// A TPM, whoever provides it.
    Tpm,
    /// AMD SEV-SNP under Azure's paravisor, with its vTPM.
    AzureSnp,
    /// Intel TDX under Azure's paravisor, with its vTPM.
    AzureTdx,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// No platform: Trustee's test evidence.
    #[cfg(feature = "test-double")]
    Sample,
}

impl Tee {
    /// Its names at key brokers of `version`, newest first: Azure's names changed within 0.4.0.
    #[must_use]
    pub const fn names(self, version: Version) -> &'static [&'static str] {
        match (self, version) {
            (Self::Tpm, _) => &["tpm"],
            (Self::AzureSnp, Version::V0_4_0) => &["az-snp-vtpm", "azsnpvtpm"],
            (Self::AzureSnp, Version::V0_2_0) => &["azsnpvtpm"],
            (Self::AzureTdx, Version::V0_4_0) => &["az-tdx-vtpm", "aztdxvtpm"],
            (Self::AzureTdx, Version::V0_2_0) => &["aztdxvtpm"],
            (Self::Snp, _) => &["snp"],
            (Self::Tdx, _) => &["tdx"],
            #[cfg(feature = "test-double")]
            (Self::Sample, _) => &["sample"],
        }
    }

    /// The current name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::AzureSnp => "az-snp-vtpm",
            Self::AzureTdx => "az-tdx-vtpm",
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            #[cfg(feature = "test-double")]
            Self::Sample => "sample",
        }
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_name_comes_first() {
        for tee in [Tee::Tpm, Tee::AzureSnp, Tee::AzureTdx, Tee::Snp, Tee::Tdx] {
            assert_eq!(tee.names(Version::V0_4_0).first(), Some(&tee.name()));
            assert!(!tee.names(Version::V0_2_0).is_empty());
        }
        assert_eq!(Tee::AzureSnp.names(Version::V0_2_0), ["azsnpvtpm"]);
    }
}
