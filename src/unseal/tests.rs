//! Tests the stage against a fake TPM: which token is used, and what is reported about the others.

use base64ct::{Base64, Encoding};
use serde_json::json;

use super::*;
use crate::base::error::Failure;
use crate::base::hex;
use crate::base::pcr::{Bank, Pcr, PcrMask, PcrValues};
use crate::format::pcr_signature::Signatures;
use crate::format::token::systemd_tpm2::Literal;
use crate::format::tpm2::template::PrimaryAlg;
use crate::format::tpm2::{policy_authorize, policy_pcr};
use crate::policy::key;
use crate::policy::key::{Exponent, PolicyKey};
use crate::tpm::Verb;
use crate::tpm::fake::FakeTpm;

const STRICT: TokenRules = TokenRules { allow_unbound: false, require_fence: true };
const SECRET: [u8; 32] = [0xfb; 32];

/// A token for keyslot `keyslot`, sealed by `tpm` to PCR 7 being `byte` and PCR 15 zero.
fn token(tpm: &mut FakeTpm, keyslot: u32, byte: u8) -> Value {
    let mut values = PcrValues::new(Bank::Sha256);
    values.insert(Pcr::new(7).unwrap(), vec![byte; 32]).unwrap();
    values.insert(Pcr::FENCE, vec![0; 32]).unwrap();
    let policy_digest = policy_pcr::digest(&values);
    let (sealed, srk) = tpm.seal(&Secret::copy_of(&SECRET), &policy_digest, None).unwrap();
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
    let mut tokens = Tokens::new(&all, |_| Ok(()));
    let unsealed =
        tokens.unseal(&mut tpm, &unfenced, &STRICT, &mut State::at_entry(unfenced.banks())).unwrap();
    assert_eq!((unsealed.token().id, unsealed.token().keyslot), (5, 5));
    assert_eq!(unsealed.secret().expose(), SECRET);
    assert!(unsealed.fence_is_effective());
    assert_eq!(
        slugs(&tokens),
        [(0, "token-other-type"), (1, "token-keyslots"), (2, "pcr-mismatch"), (4, "tpm-foreign")]
    );
    // The next call continues after the token that was used.
    assert_eq!(
        tokens
            .unseal(&mut tpm, &unfenced, &STRICT, &mut State::at_entry(unfenced.banks()))
            .unwrap()
            .token()
            .id,
        6
    );
    assert!(tokens.unseal(&mut tpm, &unfenced, &STRICT, &mut State::at_entry(unfenced.banks())).is_none());
}

#[test]
fn a_refused_token_costs_no_command() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    let mut pin = token(&mut tpm, 0, 0);
    pin["tpm2-pin"] = json!(true);
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let sent = tpm.log.len();
    let all = BTreeMap::from([(0, pin)]);
    let mut tokens = Tokens::new(&all, |_| Ok(()));
    assert!(tokens.unseal(&mut tpm, &unfenced, &STRICT, &mut State::at_entry(unfenced.banks())).is_none());
    assert_eq!((slugs(&tokens), tpm.log.len()), (vec![(0, "token-pin")], sent));
}

#[test]
fn a_keyslot_that_is_refused_gets_no_secret_and_is_the_reason_that_is_told() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    let mut pin = token(&mut tpm, 7, 0);
    pin["tpm2-pin"] = json!(true);
    let all = BTreeMap::from([(0, token(&mut tpm, 7, 0)), (1, token(&mut tpm, 2, 1)), (2, pin)]);
    let refuse = |keyslot| if keyslot == 7 { Err(HeaderError::NoSuchKeyslot(7)) } else { Ok(()) };
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let mut state = State::at_entry(unfenced.banks());
    let mut tokens = Tokens::new(&all, refuse);
    assert!(tokens.unseal(&mut tpm, &unfenced, &STRICT, &mut state).is_none());
    assert_eq!(tpm.log.iter().filter(|verb| **verb == Verb::Unseal).count(), 1, "of the second token only");
    let reasons = [(0, "luks-no-such-keyslot"), (1, "pcr-mismatch"), (2, "token-pin")];
    assert_eq!(slugs(&tokens), reasons, "a token that is not ours to try is not about its keyslot");
    assert_eq!(tokens.into_error().slug(), "luks-no-such-keyslot");

    let mut judged = Tokens::new(&all, refuse);
    assert!(judged.evaluate(&STRICT, &mut state).is_none(), "nor does its policy hold in a fenced boot");
    assert_eq!(slugs(&judged)[0], (0, "luks-no-such-keyslot"));
}

#[test]
fn a_tpm_that_is_gone_is_not_asked_again_but_a_locked_one_is() {
    for (rc, stops) in [(0x000a_000a, true), (0x922, true), (0x921, false), (0x101, false)] {
        let mut tpm = FakeTpm::new(&[Bank::Sha256]);
        let all = BTreeMap::from([(0, token(&mut tpm, 0, 0)), (1, token(&mut tpm, 1, 0))]);
        let unfenced = Unfenced::check(&mut tpm).unwrap();
        tpm.failures = vec![(Verb::Load, rc)];
        let mut tokens = Tokens::new(&all, |_| Ok(()));
        assert_eq!(
            tokens.unseal(&mut tpm, &unfenced, &STRICT, &mut State::at_entry(unfenced.banks())).is_none(),
            stops,
            "{rc:#x}"
        );
        assert_eq!((tokens.skipped().len(), tokens.is_hopeless()), (1, stops));
    }
}

#[test]
fn the_passphrase_is_systemds() {
    // python3 -c 'from base64 import b64encode as e; print(e(b"\xfb" * 32).decode())'
    let golden = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";
    assert_eq!(passphrase(&Secret::copy_of(&SECRET)).expose(), golden.as_bytes());
}

/// A token bound to PCR 15 being zero and to PCR 11 as signed by the test key; also signatures of these
/// values of PCR 11.
fn signed(tpm: &mut FakeTpm, values_of_11: &[u8]) -> (Value, Signatures) {
    let key = PolicyKey::from_pem(key::PEM).unwrap();
    let mut fence = PcrValues::new(Bank::Sha256);
    fence.insert(Pcr::FENCE, vec![0; 32]).unwrap();
    let authorized = policy_authorize::digest(&key.name(Exponent::Explicit), &[]);
    let policy = policy_pcr::extend(authorized, &fence);
    let (sealed, srk) = tpm.seal(&Secret::copy_of(&SECRET), &policy, None).unwrap();
    let mut token = token(tpm, 3, 0);
    token["tpm2-blob"] = Base64::encode_string(&sealed.to_bytes()).into();
    token["tpm2_srk"] = Base64::encode_string(&srk.to_bytes()).into();
    token["tpm2-policy-hash"] = hex::encode(&policy).into();
    token["tpm2-pcrs"] = json!([15]);
    token["tpm2_pubkey"] = Base64::encode_string(key::PEM.as_bytes()).into();
    token["tpm2_pubkey_pcrs"] = json!([11]);
    let entry = |byte: &u8| {
        let mut values = PcrValues::new(Bank::Sha256);
        values.insert(Pcr::new(11).unwrap(), vec![*byte; 32]).unwrap();
        let (pkfp, pol) = (hex::encode(key.fingerprint()), hex::encode(&policy_pcr::digest(&values)));
        json!({"pcrs": [11], "pkfp": pkfp, "pol": pol, "sig": "WlpaWg=="})
    };
    let entries: Vec<Value> = values_of_11.iter().map(entry).collect();
    (token, Signatures::parse(json!({"sha256": entries}).to_string().as_bytes()).unwrap())
}

#[test]
fn a_signed_policy_opens_where_its_state_is_signed_and_says_so_otherwise() {
    for (signatures, slugs_expected) in [(&[7, 0][..], vec![]), (&[7], vec![(0, "signature-missing")])] {
        let mut tpm = FakeTpm::new(&[Bank::Sha256]);
        let (token, signatures) = signed(&mut tpm, signatures);
        let unfenced = Unfenced::check(&mut tpm).unwrap();
        let mut state = State { signatures, ..State::at_entry(unfenced.banks()) };
        let all = BTreeMap::from([(0, token)]);
        let mut tokens = Tokens::new(&all, |_| Ok(()));
        let unsealed = tokens.unseal(&mut tpm, &unfenced, &STRICT, &mut state);
        assert_eq!(unsealed.is_some(), slugs_expected.is_empty());
        assert_eq!(slugs(&tokens), slugs_expected);
        // The same without a TPM.
        let mut tokens = Tokens::new(&all, |_| Ok(()));
        assert_eq!(tokens.evaluate(&STRICT, &mut state).is_some(), slugs_expected.is_empty());
        assert_eq!(slugs(&tokens), slugs_expected);
    }
}

#[test]
fn pcrs_that_change_between_plan_and_use_are_read_anew() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    let (token, signatures) = signed(&mut tpm, &[0, 7]);
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let mut state = State { signatures, ..State::at_entry(unfenced.banks()) };
    let eleven = Pcr::new(11).unwrap();
    state.readings.ensure(&mut tpm, Bank::Sha256, PcrMask::EMPTY.with(eleven)).unwrap();
    tpm.pcrs.insert((Bank::Sha256, eleven), vec![7; 32]);
    let all = BTreeMap::from([(0, token)]);
    let mut tokens = Tokens::new(&all, |_| Ok(()));
    let unsealed = tokens.unseal(&mut tpm, &unfenced, &STRICT, &mut state).unwrap();
    assert_eq!(unsealed.secret().expose(), SECRET);
    assert_eq!(tpm.log.iter().filter(|verb| **verb == Verb::PolicyAuthorize).count(), 2);
}

#[test]
fn a_policy_that_does_not_hold_is_explained_whether_a_tpm_was_asked_or_not() {
    let mut tpm = FakeTpm::new(&[Bank::Sha256]);
    let mut token = token(&mut tpm, 0, 1);
    token["cvm-unlock"] = json!({"version": 1, "pcrs": {"7": "01".repeat(32), "15": "00".repeat(32)}});
    token["cvm-unlock"]["binding"] = Base64::encode_string(&[0; 32]).into();
    let all = BTreeMap::from([(0, token)]);
    let unfenced = Unfenced::check(&mut tpm).unwrap();
    let mut state = State::at_entry(unfenced.banks());
    let mut asked = Tokens::new(&all, |_| Ok(()));
    assert!(asked.unseal(&mut tpm, &unfenced, &STRICT, &mut state).is_none());
    let mut judged = Tokens::new(&all, |_| Ok(()));
    assert!(judged.evaluate(&STRICT, &mut state).is_none());
    for tokens in [asked, judged] {
        let [skipped] = tokens.skipped() else { panic!("not one") };
        assert_eq!(skipped.reason.slug(), "pcr-mismatch");
        assert_eq!(skipped.mismatch.as_ref().unwrap().differences()[0].pcr, Pcr::new(7).unwrap());
        assert_eq!(skipped.text(), "PCR values are not the enrolled ones: PCR 7 changed since enrolment");
    }
}
