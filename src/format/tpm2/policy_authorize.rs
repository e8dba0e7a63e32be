//! Computes the policy digest of a signed policy. `TPM2_PolicyAuthorize` makes it from the key's name and the
//! policy reference, whatever policy was approved. Pure.

use sha2::{Digest, Sha256};

use super::step::Authorization;

/// The session's digest after the command, if `policy` was its digest before; `None` if the key approved
/// another policy.
#[must_use]
pub fn extend(policy: [u8; 32], authorization: &Authorization) -> Option<[u8; 32]> {
    (policy == authorization.approved).then(|| digest(&authorization.name, &authorization.reference))
}

/// The session's digest after `TPM2_PolicyAuthorize` (TPM 2.0 Part 3, 23.16.1 and 23.2.3). It starts over
/// from zeros: `H(H(0 ‖ TPM_CC_PolicyAuthorize ‖ name of the key) ‖ policyRef)`.
#[must_use]
pub fn digest(name: &[u8], reference: &[u8]) -> [u8; 32] {
    let first = Sha256::new()
        .chain_update(super::policy_pcr::EMPTY)
        .chain_update(CC_POLICY_AUTHORIZE.to_be_bytes())
        .chain_update(name)
        .finalize();
    Sha256::new().chain_update(first).chain_update(reference).finalize().into()
}

/// The `policyRef` for the `ref` of a token or a signature: its SHA-256, or empty without one (systemd 262).
#[must_use]
pub fn reference(text: Option<&str>) -> Vec<u8> {
    text.map(|text| Sha256::digest(text).to_vec()).unwrap_or_default()
}

/// `TPM_CC_PolicyAuthorize` (TPM 2.0 Part 2, 6.5.2).
const CC_POLICY_AUTHORIZE: u32 = 0x0000_016a;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;

    #[test]
    fn digests_are_those_of_tpm2_tools() {
        for (text, golden) in [(None, GOLDEN), (Some("initrd"), GOLDEN_INITRD)] {
            assert_eq!(hex::encode(&digest(&name(), &reference(text))), golden, "{text:?}");
        }
    }

    #[test]
    fn only_the_approved_policy_is_authorized() {
        let authorization = Authorization {
            key: Vec::new(),
            name: name(),
            approved: [7; 32],
            reference: Vec::new(),
            signature: Vec::new(),
        };
        assert_eq!(extend([7; 32], &authorization).map(|digest| hex::encode(&digest)), Some(GOLDEN.into()));
        assert_eq!(extend([8; 32], &authorization), None);
    }

    fn name() -> Vec<u8> {
        hex::decode_vec("000b3aa9569f7f54e41596bf65f11130479c2361ce559a556466824437969318a2c9").unwrap()
    }

    // tpm2-tools 5.4 against swtpm 0.7.1, the name above being in the file `name`:
    //   tpm2_startauthsession -S trial && tpm2_policyauthorize -S trial -n name -L policy
    // and alike with -q and the file that `printf initrd | openssl dgst -sha256 -binary` writes.
    const GOLDEN: &str = "13d28121a2ab9d2c65cd1fcd0619d57ea749c88af8f008b94bc20c24a4ed1665";
    const GOLDEN_INITRD: &str = "85bde6fbb655a9fba10146ea5dcc968cf69608193b740bf6d1ca096fd7f3f326";
}
