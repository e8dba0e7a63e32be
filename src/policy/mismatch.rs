//! Explains why a policy fails: which PCR differs, and its enrolled and present values. Pure.
//!
//! The recorded values are untrusted. They are believed only if they produce the policy digest, which the TPM
//! enforces, and they only inform the operator.

use std::fmt;

use super::digests;
use super::key::PolicyKey;
use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::format::token::systemd_tpm2::{Kind, Token};

/// What is known about a policy that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// These PCRs differ from their enrolled values.
    Pcrs(Vec<Difference>),
    /// The token records no values, only a digest over all of these PCRs.
    Unrecorded {
        /// The bank.
        bank: Bank,
        /// The PCRs.
        pcrs: PcrMask,
    },
    /// The token records values, but they do not produce its policy.
    Untrue,
    /// The PCRs named by value are as enrolled: something else makes the policy fail.
    None,
}

/// A PCR whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub pcr: Pcr,
    /// Its value at enrolment.
    pub enrolled: Vec<u8>,
    /// Its present value.
    pub now: Vec<u8>,
}

impl Mismatch {
    /// What is known. `now` holds the present values of the PCRs that `token` names by value.
    #[must_use]
    pub fn of(token: &Token, now: &PcrValues) -> Self {
        let key = match (token.kind(), &token.signed) {
            (Kind::Signed, Some(signed)) => PolicyKey::from_pem(&signed.key).ok(),
            _ => None,
        };
        let holds = |values: &PcrValues| {
            digests(token, key.as_ref(), values).iter().any(|(_, digest)| *digest == token.policy_digest)
        };
        if holds(now) {
            return Self::None;
        }
        match recorded(token, now.bank()) {
            None => Self::Unrecorded { bank: now.bank(), pcrs: token.pcrs },
            Some(recorded) if recorded.mask() != token.pcrs || !holds(&recorded) => Self::Untrue,
            Some(recorded) => Self::Pcrs(differences(&recorded, now)),
        }
    }

    /// The differences, if they are known.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        match self {
            Self::Pcrs(differences) => differences,
            _ => &[],
        }
    }
}

/// The values of `bank` that `token` recorded at enrolment; `None` if any is malformed.
fn recorded(token: &Token, bank: Bank) -> Option<PcrValues> {
    let mut values = PcrValues::new(bank);
    for (pcr, value) in &token.proof.as_ref()?.pcrs {
        values.insert(*pcr, value.clone())?;
    }
    (!values.mask().is_empty()).then_some(values)
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcrs(differences) => {
                let pcrs: PcrMask = differences.iter().map(|difference| difference.pcr).collect();
                let verb = if differences.len() == 1 { "PCR" } else { "PCRs" };
                write!(f, "{verb} {pcrs} changed since enrolment")
            }
            Self::Unrecorded { bank, pcrs } => {
                write!(
                    f,
                    "one or more of PCRs {pcrs} ({bank}) changed since enrolment; the token holds only a digest \
                    over all of them, so it cannot be said which"
                )
            }
            Self::Untrue => {
                f.write_str("the token records PCR values, but not those that its policy is made of")
            }
            Self::None => f.write_str("the PCRs named by value are as enrolled"),
        }
    }
}

fn differences(enrolled: &PcrValues, now: &PcrValues) -> Vec<Difference> {
    let pairs = enrolled.iter().filter_map(|(pcr, enrolled)| Some((pcr, enrolled, now.get(pcr)?)));
    pairs
        .filter(|(_, enrolled, now)| enrolled != now)
        .map(|(pcr, enrolled, now)| Difference { pcr, enrolled: enrolled.to_vec(), now: now.to_vec() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::luks::binding::Binding;
    use crate::format::token::claims::Claims;
    use crate::policy::tests::token;
    use proptest::prelude::*;

    fn values(pcrs: &[(u8, u8)]) -> PcrValues {
        let mut values = PcrValues::new(Bank::Sha256);
        for (pcr, byte) in pcrs {
            values.insert(Pcr::new(*pcr).unwrap(), vec![*byte; 32]).unwrap();
        }
        values
    }

    fn mismatch(recorded: Option<&PcrValues>, now: &PcrValues) -> Mismatch {
        let mut token = Token::parse(0, &token(&[7, 11, 15])).unwrap();
        token.proof = recorded.map(|values| Claims::new(Binding::new([0; 32])).sealed_to(values));
        Mismatch::of(&token, now)
    }

    const ENROLLED: &[(u8, u8)] = &[(7, 0), (11, 0), (15, 0)];

    #[test]
    fn the_pcr_that_differs_is_named_with_both_values() {
        let found = mismatch(Some(&values(ENROLLED)), &values(&[(7, 9), (11, 0), (15, 0)]));
        let pcr = Pcr::new(7).unwrap();
        assert_eq!(found.differences(), [Difference { pcr, enrolled: vec![0; 32], now: vec![9; 32] }]);
        assert_eq!(found.to_string(), "PCR 7 changed since enrolment");
    }

    #[test]
    fn without_values_only_the_digest_is_known() {
        let found = mismatch(None, &values(&[(7, 9), (11, 0), (15, 0)]));
        assert!(matches!(found, Mismatch::Unrecorded { .. }) && found.differences().is_empty());
        assert!(found.to_string().contains("PCRs 7+11+15 (sha256)"), "{found}");
    }

    #[test]
    fn values_that_the_policy_is_not_made_of_are_not_believed() {
        let now = values(&[(7, 9), (11, 0), (15, 0)]);
        for lie in [values(&[(7, 1), (11, 0), (15, 0)]), values(&[(7, 0)])] {
            assert_eq!(mismatch(Some(&lie), &now), Mismatch::Untrue);
        }
    }

    #[test]
    fn a_policy_that_holds_has_no_difference() {
        assert_eq!(mismatch(None, &values(ENROLLED)), Mismatch::None);
    }

    #[test]
    fn values_of_another_bank_or_none_are_no_values() {
        let now = values(&[(7, 9), (11, 0), (15, 0)]);
        let mut sha1 = PcrValues::new(Bank::Sha1);
        sha1.insert(Pcr::new(7).unwrap(), vec![0; 20]).unwrap();
        for recorded in [sha1, values(&[])] {
            assert!(matches!(mismatch(Some(&recorded), &now), Mismatch::Unrecorded { .. }));
        }
    }

    proptest! {
        #[test]
        fn what_is_said_to_differ_does(enrolled in 0..3_u8, a in 0..3_u8, b in 0..3_u8, c in 0..3_u8) {
            let now = values(&[(7, a), (11, b), (15, c)]);
            let recorded = values(&[(7, enrolled), (11, 0), (15, 0)]);
            for difference in mismatch(Some(&recorded), &now).differences() {
                prop_assert_eq!(now.get(difference.pcr), Some(difference.now.as_slice()));
                prop_assert_eq!(recorded.get(difference.pcr), Some(difference.enrolled.as_slice()));
                prop_assert_ne!(&difference.now, &difference.enrolled);
            }
        }
    }
}
