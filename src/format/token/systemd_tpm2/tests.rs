use super::*;
use crate::base::error::Failure;
use crate::format::luks::binding::Binding;
use crate::format::token::claims::with_proof;
use proptest::prelude::*;
use serde_json::json;

// systemd 252, swtpm 0.7.1: `systemd-cryptenroll --tpm2-device=swtpm:... --tpm2-pcrs=7 FILE`, then
// `cryptsetup token export --token-id=0 FILE`.
const LITERAL_252: &str = r#"{"type":"systemd-tpm2","keyslots":["1"],"tpm2-blob":"AJ4AIGUfJv37Va39FJL/TAyt7OcjJPOMdOYy4D1uk/Rq2RQoABBoraTYQ/tXXHLOgGidbmRo8+n8tZ/PFVSyFNIDg7FKynRhtJbf9Rv48IL+4+IDPQ2xQDU8NtesN19iKMoqQABo9Ft06IG0bRLD3q5gb04UIu2R4LlYfWmtW0mv/CbS/V9hutQS3ntNQCPd0Ewbtk9ajz/J3mCyab3pYABOAAgACwAAABIAIItWgtgbKUNdCNeSeBUGEdx+WSOy/vzOaEoJV3tAEwqLABAAIOdtL10KVklQ/8ILMDkj46Cjg/9uPqekkJJilgmSKIkv","tpm2-pcrs":[7],"tpm2-pcr-bank":"sha256","tpm2-primary-alg":"ecc","tpm2-policy-hash":"8b5682d81b29435d08d79278150611dc7e5923b2fefcce684a09577b40130a8b","tpm2-pin":false}"#;

fn golden() -> Value {
    serde_json::from_str(LITERAL_252).unwrap()
}

fn changed(change: impl Fn(&mut Value)) -> Result<Token, &'static str> {
    let mut token = golden();
    change(&mut token);
    Token::parse(0, &token).map_err(|error| error.slug())
}

fn srk() -> Srk {
    Srk::new(0x8100_0001, vec![0x00, 0x23, 0x00, 0x0b, 1, 2, 3]).unwrap()
}

#[test]
fn what_systemd_252_enrols_is_read() {
    let token = Token::parse(0, &golden()).unwrap();
    assert_eq!((token.id, token.keyslot, token.kind()), (0, 1, Kind::Literal));
    assert_eq!(token.pcrs.to_string(), "7");
    assert_eq!((token.bank, token.primary), (Some(Bank::Sha256), PrimaryAlg::Ecc));
    assert_eq!(token.policy_digest, token.sealed.facts().auth_policy);
    assert!(token.srk.is_none() && token.proof.is_none() && token.second.is_none());
}

#[test]
fn every_kind_is_recognised() {
    let kind = |change: fn(&mut Value)| changed(change).unwrap().kind();
    assert_eq!(kind(|token| token["tpm2-pcrs"] = json!([])), Kind::Unbound);
    assert_eq!(kind(|token| token["tpm2-pin"] = json!(true)), Kind::Pin);
    assert_eq!(kind(|token| token["tpm2_pcrlock"] = json!(true)), Kind::Pcrlock);
    let signed = |token: &mut Value| {
        token["tpm2_pubkey"] = json!(Base64::encode_string(b"-----BEGIN PUBLIC KEY-----\n"));
        token["tpm2_pubkey_pcrs"] = json!([11]);
        token["tpm2_pubkey_ref"] = json!("initrd");
    };
    let token = changed(signed).unwrap();
    assert_eq!(token.kind(), Kind::Signed);
    assert_eq!(token.signed.unwrap().reference.as_deref(), Some("initrd"));
    let sharded = |token: &mut Value| {
        for name in ["tpm2-blob", "tpm2-policy-hash"] {
            token[name] = json!([token[name], token[name]]);
        }
    };
    assert_eq!(changed(sharded).unwrap().kind(), Kind::Sharded);
}

#[test]
fn a_key_that_signs_no_pcr_leaves_a_token_unbound() {
    let token = changed(|token| {
        token["tpm2-pcrs"] = json!([]);
        token["tpm2_pubkey"] = json!(Base64::encode_string(b"-----BEGIN PUBLIC KEY-----\n"));
    });
    assert_eq!(token.unwrap().kind(), Kind::Unbound);
}

#[test]
fn members_of_tomorrow_are_ignored() {
    assert!(changed(|token| token["tpm3-magic"] = json!({"a": [1]})).is_ok());
}

#[test]
fn every_change_to_something_else_is_refused_by_its_slug() {
    let table = [
        ("type", json!("clevis"), "token-other-type"),
        ("type", json!(1), "token-malformed"),
        ("keyslots", json!(["1", "2"]), "token-keyslots"),
        ("keyslots", json!([]), "token-keyslots"),
        ("keyslots", json!([1]), "token-malformed"),
        ("keyslots", json!(["01"]), "token-malformed"),
        ("tpm2-blob", json!("AAAA"), "token-blob"),
        ("tpm2-blob", json!("A?"), "token-malformed"),
        ("tpm2-blob", json!(1), "token-malformed"),
        ("tpm2-blob", json!([]), "token-shards"),
        ("tpm2-policy-hash", json!(["00", "00"]), "token-shards"),
        ("tpm2-policy-hash", json!("00"), "token-policy-digest"),
        ("tpm2-policy-hash", json!("zz".repeat(32)), "token-policy-digest"),
        ("tpm2-policy-hash", json!("00".repeat(33)), "token-policy-digest"),
        ("tpm2-pcrs", json!([24]), "token-pcrs"),
        ("tpm2-pcrs", json!(["7"]), "token-pcrs"),
        ("tpm2-pcrs", json!(7), "token-pcrs"),
        ("tpm2-pcrs", json!([-1]), "token-pcrs"),
        ("tpm2-pcr-bank", json!("sm3"), "token-bank"),
        ("tpm2-primary-alg", json!("dsa"), "token-primary-alg"),
        ("tpm2-pin", json!("no"), "token-malformed"),
        ("tpm2_pcrlock", json!(1), "token-malformed"),
        ("tpm2_srk", json!("AAAA"), "token-srk"),
        ("tpm2_srk", json!(1), "token-malformed"),
        ("tpm2_pubkey_pcrs", json!([11]), "token-signed"),
        ("tpm2_pubkey", json!("//8="), "token-signed"),
        ("cvm-unlock", json!({}), "token-malformed"),
        ("cvm-unlock", json!({"version": 2, "binding": Base64::encode_string(&[1; 32])}), "token-binding"),
        ("cvm-unlock", json!({"version": 1, "binding": "AAAA"}), "token-binding"),
    ];
    for (name, value, slug) in table {
        let result = changed(|token| token[name] = value.clone());
        assert_eq!(result.map(|_| ()), Err(slug), "{name} = {value}");
    }
    for name in ["type", "keyslots", "tpm2-blob", "tpm2-pcrs", "tpm2-policy-hash"] {
        let result = changed(|token| drop(token.as_object_mut().unwrap().remove(name)));
        assert_eq!(result.map(|_| ()), Err("token-malformed"), "{name}");
    }
}

#[test]
fn an_unknown_member_beside_our_binding_is_refused() {
    let ours = json!({"version": 1, "binding": Base64::encode_string(&[1; 32]), "skip": true});
    assert_eq!(changed(|token| token["cvm-unlock"] = ours.clone()).map(|_| ()), Err("token-malformed"));
}

#[test]
fn a_binding_is_added_to_a_token_without_changing_it() {
    let bound = with_proof(golden(), &Claims::new(Binding::new([3; 32])));
    assert_eq!(Token::parse(0, &bound).unwrap().proof.unwrap().binding.bytes(), &[3; 32]);
    let mut without = bound;
    without.as_object_mut().unwrap().remove("cvm-unlock");
    assert_eq!(without, golden());
}

proptest! {
    #[test]
    fn what_we_write_is_what_we_read(
        keyslot in 0..32_u32,
        pcrs in prop::collection::btree_set(0..24_u8, 1..24),
        bank in prop::sample::select(Bank::ALL.to_vec()),
        rsa: bool,
        policy: [u8; 32],
        mac: Option<[u8; 32]>,
    ) {
        let sealed = Token::parse(0, &golden()).unwrap().sealed;
        let (srk, proof) = (srk(), mac.map(|mac| Claims::new(Binding::new(mac))));
        let pcrs: PcrMask = pcrs.into_iter().filter_map(Pcr::new).collect();
        let primary = if rsa { PrimaryAlg::Rsa } else { PrimaryAlg::Ecc };
        let literal = Literal {
            keyslot, sealed: &sealed, policy_digest: &policy, pcrs, bank, primary, srk: &srk, proof: proof.as_ref(),
        };
        let text = literal.to_json().to_string();
        let token = Token::parse(9, &crate::base::json::parse_json(text.as_bytes()).unwrap()).unwrap();
        prop_assert_eq!((token.keyslot, token.pcrs, token.bank, token.primary), (keyslot, pcrs, Some(bank), primary));
        prop_assert_eq!((token.policy_digest, token.kind(), token.srk), (policy, Kind::Literal, Some(srk)));
        prop_assert_eq!(token.proof.map(|proof| *proof.binding.bytes()), mac);
        prop_assert_eq!(token.sealed, sealed);
    }

    #[test]
    fn any_bytes_of_a_token_give_an_answer(position in 0..LITERAL_252.len(), byte in 32..127_u8) {
        let mut text = LITERAL_252.as_bytes().to_vec();
        text[position] = byte;
        if let Ok(value) = crate::base::json::parse_json(&text) {
            let _answer = Token::parse(0, &value);
        }
    }
}
