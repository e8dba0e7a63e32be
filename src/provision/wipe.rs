//! Decides which keyslots an enrolment removes, by `--wipe-slot=` as in systemd-cryptenroll. At least one
//! proven keyslot always remains. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde_json::Value;

use super::recovery;
use crate::base::error::failures;
use crate::format::token::key_broker;

/// What to wipe, independent of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wipe(BTreeSet<Selector>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Selector {
    Slot(u32),
    All,
    /// Keyslots that the empty passphrase opens.
    Empty,
    /// Keyslots without any token.
    Password,
    Recovery,
    Tpm2,
    /// Keyslots whose key a key broker holds.
    Kbs,
}

/// The keyslots of a volume.
pub struct Slots<'a> {
    /// Those that held the volume key before the enrolment.
    pub old: BTreeSet<u32>,
    /// All tokens from before the enrolment.
    pub tokens: &'a BTreeMap<u32, Value>,
    /// Those that the empty passphrase opens.
    pub empty: BTreeSet<u32>,
    /// Those that this run has opened: the old one that yielded the volume key, and the new ones that passed
    /// their trial.
    pub proven: BTreeSet<u32>,
}

impl Wipe {
    /// Whether nothing is to be wiped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it matters which keyslots the empty passphrase opens.
    #[must_use]
    pub fn asks_for_empty(&self) -> bool {
        self.0.contains(&Selector::Empty)
    }

    /// Whether a keyslot is to be wiped whatever opens it.
    #[must_use]
    pub fn names(&self, keyslot: u32) -> bool {
        self.0.contains(&Selector::Slot(keyslot)) || self.0.contains(&Selector::All)
    }

    /// The old keyslots to wipe.
    ///
    /// # Errors
    /// There is no such keyslot, or no proven one would remain.
    pub fn select(&self, slots: &Slots<'_>) -> Result<BTreeSet<u32>, WipeError> {
        let with = |kind: &str| of_kind(slots.tokens, |found| found == kind);
        let mut chosen = BTreeSet::new();
        for selector in &self.0 {
            match selector {
                Selector::Slot(number) if !slots.old.contains(number) => {
                    return Err(WipeError::NoSuchSlot(*number));
                }
                Selector::Slot(number) => chosen.extend([*number]),
                Selector::All => chosen.extend(&slots.old),
                Selector::Empty => chosen.extend(&slots.empty),
                Selector::Password => chosen.extend(slots.old.difference(&of_kind(slots.tokens, |_| true))),
                Selector::Recovery => chosen.extend(with(recovery::TYPE)),
                Selector::Tpm2 => chosen.extend(with(TPM2)),
                Selector::Kbs => chosen.extend(with(key_broker::TYPE)),
            }
        }
        chosen.retain(|number| slots.old.contains(number));
        if chosen.is_empty() || slots.proven.difference(&chosen).next().is_some() {
            Ok(chosen)
        } else {
            Err(WipeError::LastWayIn)
        }
    }
}

/// The keyslots named by tokens whose type `wanted` accepts.
fn of_kind(tokens: &BTreeMap<u32, Value>, wanted: impl Fn(&str) -> bool) -> BTreeSet<u32> {
    let of_kind =
        tokens.values().filter(|token| token.get("type").and_then(Value::as_str).is_some_and(&wanted));
    of_kind.flat_map(keyslots).collect()
}

/// The keyslots that a token names.
pub(super) fn keyslots(token: &Value) -> impl Iterator<Item = u32> {
    let named = token.get("keyslots").and_then(Value::as_array).into_iter().flatten();
    named.filter_map(|number| number.as_str()?.parse().ok())
}

impl FromStr for Wipe {
    type Err = WipeError;

    fn from_str(text: &str) -> Result<Self, WipeError> {
        let selector = |word: &str| match word {
            "all" => Ok(Selector::All),
            "empty" => Ok(Selector::Empty),
            "password" => Ok(Selector::Password),
            "recovery" => Ok(Selector::Recovery),
            "tpm2" => Ok(Selector::Tpm2),
            "kbs" => Ok(Selector::Kbs),
            number => number.parse().map(Selector::Slot).map_err(|_| WipeError::Syntax(number.to_owned())),
        };
        text.split(',').map(selector).collect::<Result<_, _>>().map(Self)
    }
}

/// Why nothing is wiped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WipeError {
    /// Not a selector.
    #[error("'{0}' is neither a keyslot's number nor all, empty, password, recovery, tpm2 or kbs")]
    Syntax(String),
    /// No keyslot of this number.
    #[error("Keyslot {0} does not exist or does not hold the volume key")]
    NoSuchSlot(u32),
    /// The volume might never open again.
    #[error("Wiping these keyslots would leave none that was opened in this run")]
    LastWayIn,
}

failures! { WipeError:
    Self::Syntax(_) => "usage", Usage, "";
    Self::NoSuchSlot(_) => "luks-no-such-keyslot", Usage, "";
    Self::LastWayIn => "wipe-last-way-in", Usage,
        "A key sealed to PCR values of another boot is unproven until that boot; add --recovery-key, or wipe then";
}

/// The type of systemd's TPM tokens.
const TPM2: &str = "systemd-tpm2";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn tokens() -> BTreeMap<u32, Value> {
        let token = |kind: &str, keyslot: u32| json!({"type": kind, "keyslots": [keyslot.to_string()]});
        [
            (0, token(TPM2, 1)),
            (1, token(recovery::TYPE, 2)),
            (2, token("clevis", 3)),
            (3, token(key_broker::TYPE, 6)),
        ]
        .into()
    }

    /// Old keyslots 0 (passphrase, opened), 1 (TPM), 2 (recovery), 3 (clevis), 4 (empty passphrase), 6 (key
    /// broker); 5 is new.
    fn selected(text: &str, proven: &[u32]) -> Result<Vec<u32>, WipeError> {
        let tokens = tokens();
        let (old, empty) = ([0, 1, 2, 3, 4, 6].into(), [4].into());
        let slots = Slots { old, tokens: &tokens, empty, proven: proven.iter().copied().collect() };
        text.parse::<Wipe>()?.select(&slots).map(|chosen| chosen.into_iter().collect())
    }

    #[test]
    fn selectors_mean_what_they_mean_to_systemd_cryptenroll() {
        for (text, chosen) in [
            ("tpm2", &[1][..]),
            ("recovery", &[2]),
            ("password", &[0, 4]),
            ("empty", &[4]),
            ("kbs", &[6]),
            ("all", &[0, 1, 2, 3, 4, 6]),
            ("3,tpm2", &[1, 3]),
        ] {
            assert_eq!(selected(text, &[5]).unwrap(), chosen, "{text}");
        }
        assert_eq!(selected("31", &[5]), Err(WipeError::NoSuchSlot(31)));
        assert_eq!(selected("5", &[5]), Err(WipeError::NoSuchSlot(5)));
        assert!(matches!(selected("fido2", &[5]), Err(WipeError::Syntax(_))));
    }

    #[test]
    fn the_last_way_in_is_never_wiped() {
        assert_eq!(selected("all", &[0]), Err(WipeError::LastWayIn));
        assert_eq!(selected("password", &[0]), Err(WipeError::LastWayIn));
        assert!(selected("tpm2", &[0]).is_ok());
        assert!(selected("all", &[0, 5]).is_ok());
        assert_eq!(selected("0", &[]), Err(WipeError::LastWayIn));
    }

    proptest! {
        #[test]
        fn something_proven_is_always_left(
            text in "(all|empty|password|recovery|tpm2|kbs|[0-4])(,(all|empty|password|recovery|tpm2|kbs|[0-4])){0,3}",
            proven in proptest::collection::btree_set(0_u32..8, 1..4),
        ) {
            let proven: Vec<u32> = proven.into_iter().collect();
            if let Ok(chosen) = selected(&text, &proven) {
                prop_assert!(chosen.is_empty() || proven.iter().any(|slot| !chosen.contains(slot)));
            }
        }

        #[test]
        fn any_text_gives_an_answer(text in ".{0,40}") {
            let _answer = text.parse::<Wipe>();
        }
    }
}
