//! Plans and refusals, asserted by slug.

use serde_json::{Value, json};

use super::*;
use crate::luks::token::Literal;
use crate::pcr::{PcrMask, PcrValues};
use crate::secret::Secret;
use crate::tpm::PrimaryAlg;
use crate::tpm::Tpm;
use crate::tpm::fake::FakeTpm;

const STRICT: Rules = Rules { allow_unbound: false, require_fence: true };
const LAX: Rules = Rules { allow_unbound: true, require_fence: false };

fn mask(pcrs: &[u8]) -> PcrMask {
    pcrs.iter().map(|number| Pcr::new(*number).unwrap()).collect()
}

/// A token bound to `pcrs` being zero.
fn token(pcrs: &[u8]) -> Value {
    let mut values = PcrValues::new(Bank::Sha256);
    for pcr in mask(pcrs).iter() {
        values.insert(pcr, vec![0; 32]).unwrap();
    }
    let policy_digest = literal::digest(&values);
    let (sealed, srk) = FakeTpm::new(&Bank::ALL).seal(&Secret::new(vec![1; 32]), &policy_digest).unwrap();
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

fn plan_of(token: &Value, rules: &Rules, active: &[Bank]) -> Result<Plan, &'static str> {
    plan(&Token::parse(0, token).unwrap(), rules, active).map_err(|refusal| refusal.slug())
}

#[test]
fn a_literal_token_is_one_policy_command() {
    let plan = plan_of(&token(&[7, 15]), &STRICT, &[Bank::Sha256]).unwrap();
    assert_eq!(plan.steps, [Step::Pcr(Bank::Sha256, mask(&[7, 15]))]);
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
        assert_eq!(plan_of(&token, &STRICT, active).unwrap().steps, [Step::Pcr(bank, mask(&[15]))]);
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
    assert_eq!(plan_of(&token, &Rules { require_fence: true, ..LAX }, &Bank::ALL), Err("fence-ineffective"));
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
    let key = json!("LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0=");
    let signed = with(with(token(&[15]), "tpm2_pubkey", key), "tpm2_pubkey_pcrs", json!([11]));
    assert_eq!(plan_of(&signed, &STRICT, &Bank::ALL), Err("token-signed-unsupported"));
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
