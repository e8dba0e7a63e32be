//! The stage against a fake TPM: which token is taken, what is said about the others.

use serde_json::json;

use super::*;
use crate::luks::token::Literal;
use crate::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::policy::literal;
use crate::tpm::fake::FakeTpm;
use crate::tpm::{PrimaryAlg, Verb};

const STRICT: Rules = Rules { allow_unbound: false, require_fence: true };
const SECRET: [u8; 32] = [0xfb; 32];

/// A token for keyslot `keyslot`, sealed by `tpm` to PCR 7 being `byte` and PCR 15 zero.
fn token(tpm: &mut FakeTpm, keyslot: u32, byte: u8) -> Value {
    let mut values = PcrValues::new(Bank::Sha256);
    values.insert(Pcr::new(7).unwrap(), vec![byte; 32]).unwrap();
    values.insert(Pcr::FENCE, vec![0; 32]).unwrap();
    let policy_digest = literal::digest(&values);
    let (sealed, srk) = tpm.seal(&Secret::copy_of(&SECRET), &policy_digest).unwrap();
    let pcrs: PcrMask = values.mask();
    let (bank, primary) = (Bank::Sha256, PrimaryAlg::Ecc);
    Literal {
        keyslot,
        sealed: &sealed,
        policy_digest: &policy_digest,
        pcrs,
        bank,
        primary,
        srk: &srk,
        proof: None,
    }
    .to_json()
}

fn slugs(tokens: &Tokens<'_>) -> Vec<(u32, &'static str)> {
    tokens.skipped().iter().map(|skipped| (skipped.token, skipped.reason.slug())).collect()
}

#[test]
fn the_first_token_that_opens_is_taken_and_the_others_have_their_reasons() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    let foreign = token(&mut FakeTpm::new(&[Bank::Sha256]), 9, 0xee);
    let all = BTreeMap::from([
        (0, json!({ "type": "luks2-keyring", "keyslots": ["0"] })),
        (1, json!({ "type": "systemd-tpm2", "keyslots": [] })),
        (2, token(&mut tpm, 2, 1)),
        (4, foreign),
        (5, token(&mut tpm, 5, 0)),
        (6, token(&mut tpm, 6, 0)),
    ]);
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let mut tokens = Tokens::new(&all);
    let unsealed = tokens.unseal(&mut tpm, &unfenced, &STRICT).unwrap();
    assert_eq!((unsealed.token().id, unsealed.token().keyslot), (5, 5));
    assert_eq!(unsealed.secret().expose(), SECRET);
    assert!(unsealed.fence_is_effective());
    assert_eq!(
        slugs(&tokens),
        [(0, "token-other-type"), (1, "token-keyslots"), (2, "pcr-mismatch"), (4, "tpm-foreign")]
    );
    // The next call goes on behind the one that was taken.
    assert_eq!(tokens.unseal(&mut tpm, &unfenced, &STRICT).unwrap().token().id, 6);
    assert!(tokens.unseal(&mut tpm, &unfenced, &STRICT).is_none());
}

#[test]
fn a_refused_token_costs_no_command() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    let mut pin = token(&mut tpm, 0, 0);
    pin["tpm2-pin"] = json!(true);
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let sent = tpm.log.len();
    let all = BTreeMap::from([(0, pin)]);
    let mut tokens = Tokens::new(&all);
    assert!(tokens.unseal(&mut tpm, &unfenced, &STRICT).is_none());
    assert_eq!((slugs(&tokens), tpm.log.len()), (vec![(0, "token-pin")], sent));
}

#[test]
fn a_tpm_that_is_gone_is_not_asked_again_but_a_locked_one_is() {
    for (rc, stops) in [(0x000a_000a, true), (0x922, true), (0x921, false), (0x101, false)] {
        let mut tpm = FakeTpm::new(&[Bank::Sha256]);
        let all = BTreeMap::from([(0, token(&mut tpm, 0, 0)), (1, token(&mut tpm, 1, 0))]);
        let unfenced = Unfenced::check(&mut tpm).unwrap();
        tpm.failures = vec![(Verb::Load, rc)];
        let mut tokens = Tokens::new(&all);
        assert_eq!(tokens.unseal(&mut tpm, &unfenced, &STRICT).is_none(), stops, "{rc:#x}");
        assert_eq!(tokens.skipped().len(), 1);
    }
}

#[test]
fn the_passphrase_is_systemds() {
    // python3 -c 'from base64 import b64encode as e; print(e(b"\xfb" * 32).decode())'
    let golden = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";
    assert_eq!(passphrase(&Secret::copy_of(&SECRET)).expose(), golden.as_bytes());
}
