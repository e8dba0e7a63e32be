//! Writes tokens, in systemd's spelling.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::{Signed, TYPE};
use crate::base::hex;
use crate::base::pcr::{Bank, Pcr, PcrMask};
use crate::format::token::claims::{Claims, with_proof};
use crate::format::tpm2::blob::Sealed;
use crate::format::tpm2::srk::Srk;
use crate::format::tpm2::template::PrimaryAlg;

/// A token to write, with a policy of literal PCR values.
#[derive(Clone, Copy)]
pub struct Literal<'a> {
    /// The keyslot whose passphrase is sealed.
    pub keyslot: u32,
    /// The sealed object.
    pub sealed: &'a Sealed,
    /// The policy digest that unseals it.
    pub policy_digest: &'a [u8; 32],
    /// PCRs bound by value.
    pub pcrs: PcrMask,
    /// Their bank.
    pub bank: Bank,
    /// The algorithm of the parent key.
    pub primary: PrimaryAlg,
    /// The parent key.
    pub srk: &'a Srk,
    /// Our own member.
    pub proof: Option<&'a Claims>,
}

impl Literal<'_> {
    /// The token's JSON: systemd's members in systemd's spelling, then ours.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let pcrs: Vec<_> = self.pcrs.iter().map(Pcr::number).collect();
        let token = json!({
            "type": TYPE,
            "keyslots": [self.keyslot.to_string()],
            "tpm2-blob": Base64::encode_string(&self.sealed.to_bytes()),
            "tpm2-pcrs": pcrs,
            "tpm2-pcr-bank": self.bank.name(),
            "tpm2-primary-alg": self.primary.name(),
            "tpm2-policy-hash": hex::encode(self.policy_digest),
            "tpm2_srk": Base64::encode_string(&self.srk.to_bytes()),
        });
        match self.proof {
            Some(proof) => with_proof(token, proof),
            None => token,
        }
    }
}

/// A token's JSON with a signed policy added, in systemd's members, beside the PCRs bound by value.
#[must_use]
pub fn with_signed(mut token: Value, signed: &Signed) -> Value {
    if let Some(members) = token.as_object_mut() {
        let pcrs: Vec<_> = signed.pcrs.iter().map(Pcr::number).collect();
        members.insert("tpm2_pubkey".to_owned(), Base64::encode_string(signed.key.as_bytes()).into());
        members.insert("tpm2_pubkey_pcrs".to_owned(), pcrs.into());
        if let Some(reference) = &signed.reference {
            members.insert("tpm2_pubkey_ref".to_owned(), reference.clone().into());
        }
    }
    token
}
