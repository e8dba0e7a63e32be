//! Plans and refusals, asserted by slug.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::*;
use crate::base::error::Failure;
use crate::base::hex;
use crate::base::pcr::{PcrMask, PcrValues};
use crate::base::secret::Secret;
use crate::format::token::systemd_tpm2::Literal;
use crate::format::tpm2::template::PrimaryAlg;
use crate::tpm::Tpm;
use crate::tpm::fake::FakeTpm;

const STRICT: TokenRules = TokenRules { allow_unbound: false, require_fence: true };
const LAX: TokenRules = TokenRules { allow_unbound: true, require_fence: false };

fn mask(pcrs: &[u8]) -> PcrMask {
    pcrs.iter().map(|number| Pcr::new(*number).unwrap()).collect()
}

/// A token bound to zero in `pcrs`.
pub(super) fn token(pcrs: &[u8]) -> Value {
    let mut values = PcrValues::new(Bank::Sha256);
    for pcr in mask(pcrs).iter() {
        values.insert(pcr, vec![0; 32]).unwrap();
    }
    let policy_digest = policy_pcr::digest(&values);
    let (sealed, srk) =
        FakeTpm::new(&Bank::ALL).seal(&Secret::new(vec![1; 32]), &policy_digest, None).unwrap();
    Literal {
        keyslot: 1,
        sealed: &sealed,
        policy_digest: &policy_digest,
        pcrs: mask(pcrs),
        bank: Bank::Sha256,
        primary: PrimaryAlg::Ecc,
        srk: &srk,
        proof: None,
    }
    .to_json()
}

fn with(mut token: Value, member: &str, value: Value) -> Value {
    token[member] = value;
    token
}

fn plan_of(token: &Value, rules: &TokenRules, active: &[Bank]) -> Result<Plan, &'static str> {
    plan(&Token::parse(0, token).unwrap(), rules, &State::at_entry(active)).map_err(|refusal| refusal.slug())
}

#[test]
fn a_literal_token_is_one_policy_command() {
    let plan = plan_of(&token(&[7, 15]), &STRICT, &[Bank::Sha256]).unwrap();
    assert_eq!(plan.steps, [PolicyStep::Pcr(Bank::Sha256, mask(&[7, 15]))]);
    assert!(plan.fenced && matches!(plan.parent, Parent::Persistent(_)));
}

#[test]
fn a_token_without_a_parent_key_takes_the_legacy_primary() {
    let mut token = with(token(&[15]), "tpm2-primary-alg", json!("rsa"));
    token.as_object_mut().unwrap().remove("tpm2_srk");
    assert_eq!(plan_of(&token, &STRICT, &[Bank::Sha256]).unwrap().parent, Parent::Legacy(PrimaryAlg::Rsa));
}

#[test]
fn a_token_without_a_bank_takes_sha256_and_else_sha1() {
    let mut token = token(&[15]);
    token.as_object_mut().unwrap().remove("tpm2-pcr-bank");
    for (active, bank) in [(&Bank::ALL[..], Bank::Sha256), (&[Bank::Sha1, Bank::Sha384], Bank::Sha1)] {
        assert_eq!(plan_of(&token, &STRICT, active).unwrap().steps, [PolicyStep::Pcr(bank, mask(&[15]))]);
    }
    assert_eq!(plan_of(&token, &STRICT, &[Bank::Sha384]), Err("bank-inactive"));
}

#[test]
fn an_inactive_bank_is_refused() {
    assert_eq!(plan_of(&token(&[15]), &STRICT, &[Bank::Sha384]), Err("bank-inactive"));
}

#[test]
fn an_unbound_token_opens_only_if_the_rules_say_so() {
    let token = token(&[]);
    assert_eq!(plan_of(&token, &STRICT, &Bank::ALL), Err("token-unbound"));
    let plan = plan_of(&token, &LAX, &Bank::ALL).unwrap();
    assert!(plan.steps.is_empty() && !plan.fenced);
    assert_eq!(
        plan_of(&token, &TokenRules { require_fence: true, ..LAX }, &Bank::ALL),
        Err("fence-ineffective")
    );
}

#[test]
fn a_policy_without_pcr_15_is_refused_unless_the_rules_give_up_the_fence() {
    assert_eq!(plan_of(&token(&[7]), &STRICT, &Bank::ALL), Err("fence-ineffective"));
    assert!(!plan_of(&token(&[7]), &LAX, &Bank::ALL).unwrap().fenced);
}

#[test]
fn a_bound_object_cannot_pass_for_unbound_nor_the_reverse() {
    let bound = with(token(&[7, 15]), "tpm2-pcrs", json!([]));
    assert_eq!(plan_of(&bound, &LAX, &Bank::ALL), Err("token-inconsistent"));
    let unbound = with(token(&[]), "tpm2-pcrs", json!([7, 15]));
    assert_eq!(plan_of(&unbound, &STRICT, &Bank::ALL), Err("token-inconsistent"));
}

#[test]
fn a_policy_digest_that_is_not_the_objects_is_refused() {
    let token = with(token(&[15]), "tpm2-policy-hash", json!("00".repeat(32)));
    assert_eq!(plan_of(&token, &STRICT, &Bank::ALL), Err("token-inconsistent"));
}

#[test]
fn other_kinds_are_refused_by_name() {
    for (member, slug) in [("tpm2-pin", "token-pin"), ("tpm2_pcrlock", "token-pcrlock-unsupported")] {
        assert_eq!(plan_of(&with(token(&[15]), member, json!(true)), &STRICT, &Bank::ALL), Err(slug));
    }
    let mut sharded = token(&[15]);
    for member in ["tpm2-blob", "tpm2-policy-hash"] {
        let shard = sharded[member].clone();
        sharded[member] = json!([shard, shard]);
    }
    assert_eq!(plan_of(&sharded, &STRICT, &Bank::ALL), Err("token-sharded-unsupported"));
}

/// A token's policy key and digest by `systemd-cryptenroll --tpm2-pcrs=7 --tpm2-public-key=…` (systemd 252),
/// PCR 7 zero.
#[test]
fn the_digest_of_a_signed_policy_beside_literal_pcrs_is_systemds() {
    let key = PolicyKey::from_pem(key::PEM).unwrap();
    let mut signed = Token::parse(0, &token(&[7])).unwrap();
    signed.signed = Some(Signed { key: key::PEM.to_owned(), pcrs: mask(&[11]), reference: None });
    let mut values = PcrValues::new(Bank::Sha256);
    values.insert(Pcr::new(7).unwrap(), vec![0; 32]).unwrap();
    let (exponent, digest) = digests(&signed, Some(&key), &values)[0];
    let golden = "d7509a237ddf3334b6e2e4f1a4a1603a3871e7a0927bb3ded78e09e81623d9d1";
    assert_eq!((exponent, hex::encode(&digest).as_str()), (Exponent::Explicit, golden));
}

#[test]
fn a_signed_token_without_a_usable_key_is_refused_by_name() {
    for (pem, slug) in [("not PEM", "token-policy-key"), (key::PEM, "pcr-unknown")] {
        let encoded = Base64::encode_string(pem.as_bytes());
        let signed = with(with(token(&[15]), "tpm2_pubkey", json!(encoded)), "tpm2_pubkey_pcrs", json!([11]));
        assert_eq!(plan_of(&signed, &STRICT, &Bank::ALL), Err(slug));
    }
}

#[test]
fn a_signed_token_whose_policy_is_not_its_keys_is_refused() {
    let encoded = Base64::encode_string(key::PEM.as_bytes());
    let other = with(with(token(&[15]), "tpm2_pubkey", json!(encoded)), "tpm2_pubkey_pcrs", json!([11]));
    let other = Token::parse(0, &with(other, "tpm2-pcrs", json!([]))).unwrap();
    let mut state = State::at_entry(&[Bank::Sha256]);
    state.readings.ensure(&mut FakeTpm::new(&Bank::ALL), Bank::Sha256, mask(&[11])).unwrap();
    assert_eq!(plan(&other, &LAX, &state).unwrap_err(), PolicyRefusal::Inconsistent);
}

#[test]
fn one_answer_of_the_tpm_holds_what_is_read_at_entry() {
    let parse = |value: &Value| Token::parse(0, value).unwrap();
    assert_eq!(at_entry(&[]), []);
    assert_eq!(at_entry(&[parse(&token(&[7, 15])), parse(&token(&[]))]), [(Bank::Sha256, mask(&[7]))]);
    let many = [parse(&token(&[4, 7, 11])), parse(&token(&[7, 12, 13, 15]))];
    assert_eq!(at_entry(&many), [(Bank::Sha256, mask(&[4, 7, 11, 12]))]);
    // What a signed policy needs is listed first.
    let mut signed = parse(&token(&[15]));
    signed.signed = Some(Signed { key: String::new(), pcrs: mask(&[11, 14]), reference: None });
    let [first, second] = many;
    assert_eq!(at_entry(&[first, second, signed]), [(Bank::Sha256, mask(&[4, 7, 11, 14]))]);
}
