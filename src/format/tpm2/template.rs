//! Public areas of the objects that we ask a TPM to create: systemd's storage root keys, sealed objects and
//! the attestation key, in wire form.

/// The algorithm of a primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryAlg {
    /// ECC, NIST P-256.
    Ecc,
    /// RSA, 2048 bits.
    Rsa,
}

impl PrimaryAlg {
    /// Both, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Ecc, Self::Rsa];

    /// The algorithm by its name in tokens (`ecc`, `rsa`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }

    /// The algorithm of a key with this marshalled `TPMT_PUBLIC`.
    #[must_use]
    pub fn of_public(public: &[u8]) -> Option<Self> {
        match *public.first_chunk()? {
            ALG_ECC => Some(Self::Ecc),
            ALG_RSA => Some(Self::Rsa),
            _ => None,
        }
    }

    /// The name in tokens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ecc => "ecc",
            Self::Rsa => "rsa",
        }
    }
}

/// A primary key of the owner hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primary {
    /// systemd's storage root key (`tpm2_get_srk_template`), which is also the TCG's (TPM v2.0 Provisioning
    /// Guidance, 7.5.1).
    Srk(PrimaryAlg),
    /// systemd's key up to v253 (`tpm2_get_legacy_template`): the same without `noDA`.
    Legacy(PrimaryAlg),
}

impl Primary {
    /// The storage root key template that `public`, a marshalled `TPMT_PUBLIC`, was made from.
    #[must_use]
    pub fn of(public: &[u8]) -> Option<Self> {
        PrimaryAlg::ALL.into_iter().map(Self::Srk).find(|primary| {
            let template = primary.public();
            let unique = primary.unique_size();
            template
                .len()
                .checked_sub(unique)
                .and_then(|fixed| template.get(..fixed))
                .is_some_and(|fixed| public.starts_with(fixed))
        })
    }

    /// The marshalled `TPMT_PUBLIC` with an empty `unique`.
    #[must_use]
    pub fn public(self) -> Vec<u8> {
        let (alg, attributes) = match self {
            Self::Srk(alg) => (alg, SRK_ATTRIBUTES),
            Self::Legacy(alg) => (alg, LEGACY_ATTRIBUTES),
        };
        let mut bytes = Vec::new();
        bytes.extend_from_slice(match alg {
            PrimaryAlg::Ecc => &ALG_ECC,
            PrimaryAlg::Rsa => &ALG_RSA,
        });
        bytes.extend_from_slice(&ALG_SHA256);
        bytes.extend_from_slice(&attributes.to_be_bytes());
        bytes.extend_from_slice(&NO_POLICY);
        bytes.extend_from_slice(&AES_128_CFB);
        bytes.extend_from_slice(match alg {
            PrimaryAlg::Ecc => &ECC_P256_UNIQUE.0,
            PrimaryAlg::Rsa => &RSA_2048_UNIQUE.0,
        });
        bytes
    }

    /// Bytes at the end of the template that the TPM replaces with the key.
    const fn unique_size(self) -> usize {
        match self {
            Self::Srk(PrimaryAlg::Ecc) | Self::Legacy(PrimaryAlg::Ecc) => ECC_P256_UNIQUE.1,
            Self::Srk(PrimaryAlg::Rsa) | Self::Legacy(PrimaryAlg::Rsa) => RSA_2048_UNIQUE.1,
        }
    }
}

/// The marshalled `TPMT_PUBLIC` of an object to seal to `policy`: a KEYEDHASH without scheme, SHA-256.
#[must_use]
pub fn sealed_object(policy: &[u8; 32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&ALG_KEYEDHASH);
    bytes.extend_from_slice(&ALG_SHA256);
    bytes.extend_from_slice(&SEALED_ATTRIBUTES.to_be_bytes());
    bytes.extend_from_slice(&[0x00, 0x20]);
    bytes.extend_from_slice(policy);
    bytes.extend_from_slice(&[0x00, 0x10, 0x00, 0x00]); // TPM_ALG_NULL, unique empty
    bytes
}

/// The marshalled `TPMT_PUBLIC` of the attestation key, with an empty `unique`: RSA with 2048 bits, RSASSA
/// with SHA-256 (which Trustee's verifier for TPMs accepts), restricted to signing what the TPM itself made.
///
/// The key belongs to the endorsement hierarchy because attestation must still work after a `TPM2_Clear`,
/// when nothing sealed opens any more. A clear changes the owner's seed but not this one. The TPM derives the
/// key from the seed at each use, so that it is the same at every boot without being stored.
#[must_use]
pub fn attestation_key() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&ALG_RSA);
    bytes.extend_from_slice(&ALG_SHA256);
    bytes.extend_from_slice(&ATTESTATION_ATTRIBUTES.to_be_bytes());
    bytes.extend_from_slice(&NO_POLICY);
    bytes.extend_from_slice(&[0x00, 0x10, 0x00, 0x14]); // No symmetric algorithm; TPM_ALG_RSASSA
    bytes.extend_from_slice(&ALG_SHA256);
    bytes.extend_from_slice(&[0x08, 0x00, 0x00, 0x00, 0x00, 0x00]); // 2048 bits, default exponent
    bytes.extend_from_slice(&[0x00, 0x00]);
    bytes
}

/// Handle at which systemd and the TCG keep the storage root key.
pub const SRK_HANDLE: u32 = 0x8100_0001;

// TPM_ALG_ID (TCG Algorithm Registry, table 3).
const ALG_RSA: [u8; 2] = [0x00, 0x01];
const ALG_KEYEDHASH: [u8; 2] = [0x00, 0x08];
const ALG_SHA256: [u8; 2] = [0x00, 0x0b];
const ALG_ECC: [u8; 2] = [0x00, 0x23];
/// restricted, decrypt, userWithAuth, sensitiveDataOrigin, fixedParent, fixedTPM, noDA (TPM 2.0 Part 2, 8.3.2).
const SRK_ATTRIBUTES: u32 = 0x0003_0472;
/// The same without noDA.
const LEGACY_ATTRIBUTES: u32 = 0x0003_0072;
/// fixedTPM, fixedParent, noDA. Without userWithAuth, only the policy authorises unsealing.
const SEALED_ATTRIBUTES: u32 = 0x0000_0412;
/// sign, restricted, noDA, userWithAuth, sensitiveDataOrigin, fixedParent, fixedTPM.
const ATTESTATION_ATTRIBUTES: u32 = 0x0005_0472;
const NO_POLICY: [u8; 2] = [0x00, 0x00];
/// `TPMT_SYM_DEF_OBJECT`.
const AES_128_CFB: [u8; 6] = [0x00, 0x06, 0x00, 0x80, 0x00, 0x43];
/// Scheme NULL, curve NIST P-256, KDF NULL and an empty point; then the size of the point.
const ECC_P256_UNIQUE: ([u8; 10], usize) = ([0x00, 0x10, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00], 4);
/// Scheme NULL, 2048 bits, default exponent and an empty modulus; then the size of the modulus.
const RSA_2048_UNIQUE: ([u8; 10], usize) = ([0x00, 0x10, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00], 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_template() {
        // A storage root key's public area is the template up to the unique value.
        for alg in PrimaryAlg::ALL {
            let template = Primary::Srk(alg);
            let mut public = template.public();
            public.truncate(public.len() - template.unique_size());
            public.extend_from_slice(&[0x00, 0x20]);
            public.extend_from_slice(&[0x5a; 32]);
            assert_eq!(Primary::of(&public), Some(template));
            assert_eq!(PrimaryAlg::of_public(&public), Some(alg));
            public[7] ^= 1;
            assert_eq!(Primary::of(&public), None);
        }
        assert_eq!((Primary::of(&[]), PrimaryAlg::of_public(&[0x00])), (None, None));
        assert_eq!(Primary::of(&Primary::Legacy(PrimaryAlg::Ecc).public()), None);
    }

    #[test]
    fn sizes_are_those_of_the_wire_form() {
        assert_eq!(Primary::Srk(PrimaryAlg::Ecc).public().len(), 26);
        assert_eq!(Primary::Legacy(PrimaryAlg::Rsa).public().len(), 26);
        assert_eq!(sealed_object(&[7; 32]).len(), 46);
        assert_eq!(attestation_key().len(), 24);
    }
}
