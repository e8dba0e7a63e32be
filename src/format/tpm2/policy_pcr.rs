//! Computes the policy digest that `TPM2_PolicyPCR` makes from PCR values. Pure; the caller knows how far to
//! trust the values.

use sha2::{Digest, Sha256};

use crate::base::pcr::PcrValues;

/// The digest of a policy that requires exactly `values`, and nothing else.
///
/// Without values there is no step: the digest is [`EMPTY`], which every state of the machine satisfies.
#[must_use]
pub fn digest(values: &PcrValues) -> [u8; 32] {
    if values.mask().is_empty() { EMPTY } else { extend(EMPTY, values) }
}

/// The digest `policy` extended by one step, `TPM2_PolicyPCR` over `values` (TPM 2.0 Part 3, 23.7):
/// `H(policy ‖ TPM_CC_PolicyPCR ‖ TPML_PCR_SELECTION ‖ H(values in ascending order))`.
///
/// H is the session's hash, SHA-256, whatever the bank.
#[must_use]
pub fn extend(policy: [u8; 32], values: &PcrValues) -> [u8; 32] {
    let mut state = Sha256::new();
    for (_, value) in values.iter() {
        state.update(value);
    }
    Sha256::new()
        .chain_update(policy)
        .chain_update(CC_POLICY_PCR.to_be_bytes())
        .chain_update(SELECTIONS.to_be_bytes())
        .chain_update(values.bank().alg_id().to_be_bytes())
        .chain_update(SIZE_OF_SELECT.to_be_bytes())
        .chain_update(values.mask().octets())
        .chain_update(state.finalize())
        .finalize()
        .into()
}

/// The digest of a session in which no policy command ran (TPM 2.0 Part 1, 19.7.1).
pub const EMPTY: [u8; 32] = [0; 32];

/// `TPM_CC_PolicyPCR` (TPM 2.0 Part 2, 6.5.2).
const CC_POLICY_PCR: u32 = 0x0000_017f;
/// Number of `TPMS_PCR_SELECTION` in the list: one bank.
const SELECTIONS: u32 = 1;
/// `sizeofSelect`: three octets for 24 PCRs, as systemd and tpm2-tools write it.
const SIZE_OF_SELECT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pcr::{Bank, Pcr};

    fn values(bank: Bank, pcrs: &[(u8, u8)]) -> PcrValues {
        let mut values = PcrValues::new(bank);
        for (pcr, byte) in pcrs {
            values.insert(Pcr::new(*pcr).unwrap(), vec![*byte; bank.digest_size()]).unwrap();
        }
        values
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn digests_are_those_of_tpm2_tools() {
        for (values, golden) in [
            (values(Bank::Sha256, &[(7, 0x11), (11, 0x22), (15, 0)]), GOLDEN_7_11_15),
            (values(Bank::Sha384, &[(0, 0xaa)]), GOLDEN_SHA384_0),
            (values(Bank::Sha1, &[(23, 0xff)]), GOLDEN_SHA1_23),
        ] {
            assert_eq!(hex(&digest(&values)), golden);
        }
    }

    #[test]
    fn no_pcr_is_no_step() {
        assert_eq!(digest(&PcrValues::new(Bank::Sha256)), EMPTY);
    }

    // tpm2-tools 5.4 against swtpm 0.7.1; the values in the file stand in ascending order of PCRs:
    //   python3 -c 'import sys; sys.stdout.buffer.write(b"\x11"*32 + b"\x22"*32 + bytes(32))' > values
    //   tpm2_startauthsession -S session && tpm2_policypcr -S session -l sha256:7,11,15 -f values -L policy
    // and alike `-l sha384:0` with 48 bytes of aa, `-l sha1:23` with 20 bytes of ff.
    const GOLDEN_7_11_15: &str = "9bc854a5ee7a6be8b56dccb408ee4d846b6d0d0f1d42828a1e37c30ee17bd7c2";
    const GOLDEN_SHA384_0: &str = "f83a4e35370a11bc179574fa3a459f2a1d5881bccd6ec32a05f95157459cf79f";
    const GOLDEN_SHA1_23: &str = "f1519912945304c15a9dc0a8985bc5c149c456ab105cccd8353e5a1810bea289";
}
