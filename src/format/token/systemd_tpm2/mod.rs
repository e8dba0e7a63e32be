//! Parses tokens of type `systemd-tpm2`, which are untrusted. Unknown members are ignored, as in systemd,
//! since later versions may add some; our own member is strict. Parsing does not authorise a token:
//! [`Token::kind`] classifies it, and the policy decides.

mod literal;

use base64ct::{Base64, Encoding};
use serde_json::Value;

use super::claims;
use super::claims::Claims;
use super::error::TokenError;
use super::prelude::prelude;
use crate::base::hex;
use crate::base::pcr::{Bank, Pcr, PcrMask};
use crate::format::luks::HeaderError;
use crate::format::luks::members::Members;
use crate::format::luks::token_type;
use crate::format::tpm2::blob::Sealed;
use crate::format::tpm2::srk::Srk;
use crate::format::tpm2::template::PrimaryAlg;
pub use literal::{Literal, with_signed};

/// A token for a keyslot whose passphrase a TPM has sealed.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token's number in the header.
    pub id: u32,
    /// The keyslot whose passphrase is sealed.
    pub keyslot: u32,
    /// The sealed object; the first one if there are two.
    pub sealed: Sealed,
    /// The policy digest that unseals it, as the token claims.
    pub policy_digest: [u8; 32],
    /// The second object with its policy digest, if the passphrase is split (systemd: signed policy and
    /// pcrlock).
    pub second: Option<(Sealed, [u8; 32])>,
    /// PCRs bound by value.
    pub pcrs: PcrMask,
    /// The bank of all PCRs; `None` if the token does not name one.
    pub bank: Option<Bank>,
    /// The algorithm of the parent key.
    pub primary: PrimaryAlg,
    /// The parent key; `None` means systemd's legacy primary key, derived for each unseal (before version
    /// 254).
    pub srk: Option<Srk>,
    /// Whether a PIN is needed.
    pub pin: bool,
    /// PCRs bound by a signed policy.
    pub signed: Option<Signed>,
    /// Whether a pcrlock policy in NV memory is needed.
    pub pcrlock: bool,
    /// Our own member, if the token has one: binding and owner's signature.
    pub proof: Option<Claims>,
}

/// A signed PCR policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The public key that signs, as PEM text.
    pub key: String,
    /// PCRs bound by signature. May be empty; the signature then binds nothing.
    pub pcrs: PcrMask,
    /// The policy reference (systemd 262).
    pub reference: Option<String>,
}

/// The kind of a token, by the first thing that it requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Literal PCR values.
    Literal,
    /// Nothing: it unseals in every state of its TPM. systemd's default since version 258.
    Unbound,
    /// A PIN, perhaps with other conditions. Nobody is there to type it.
    Pin,
    /// A signed PCR policy, perhaps with literal PCR values.
    Signed,
    /// A pcrlock policy.
    Pcrlock,
    /// Two sealed objects.
    Sharded,
}

impl Token {
    /// Parses the token with the number `id`.
    ///
    /// # Errors
    /// It has another type, or is not what systemd writes and accepts.
    pub fn parse(id: u32, value: &Value) -> Result<Self, TokenError> {
        let (mut members, keyslot) = prelude(id, value, TYPE)?;
        let ((sealed, policy_digest), second) = shards(&mut members)?;
        let bank = members
            .optional("tpm2-pcr-bank")
            .map(|bank| bank.as_str().and_then(Bank::from_name).ok_or(TokenError::Bank));
        let primary = members.optional("tpm2-primary-alg").map_or(Ok(PrimaryAlg::Ecc), |primary| {
            primary.as_str().and_then(PrimaryAlg::from_name).ok_or(TokenError::PrimaryAlg)
        });
        let srk = present(&mut members, "tpm2_srk", Members::base64)?;
        let proof =
            members.optional(claims::NAME).map(|value| Claims::parse(&members.at(claims::NAME), value));
        Ok(Self {
            id,
            keyslot,
            sealed,
            policy_digest,
            second,
            pcrs: mask(members.value("tpm2-pcrs")?)?,
            bank: bank.transpose()?,
            primary: primary?,
            srk: srk.map(|bytes| Srk::parse(&bytes)).transpose()?,
            pin: switch(&mut members, "tpm2-pin")?,
            signed: signed(&mut members)?,
            pcrlock: switch(&mut members, "tpm2_pcrlock")?,
            proof: proof.transpose()?,
        })
    }

    /// The token's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let signed = self.signed.as_ref().is_some_and(|signed| !signed.pcrs.is_empty());
        if self.pin {
            Kind::Pin
        } else if self.second.is_some() {
            Kind::Sharded
        } else if self.pcrlock {
            Kind::Pcrlock
        } else if signed {
            Kind::Signed
        } else if self.pcrs.is_empty() {
            Kind::Unbound
        } else {
            Kind::Literal
        }
    }
}

impl Kind {
    /// The kind's name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Unbound => "unbound",
            Self::Pin => "pin",
            Self::Signed => "signed",
            Self::Pcrlock => "pcrlock",
            Self::Sharded => "sharded",
        }
    }
}

type Shard = (Sealed, [u8; 32]);

/// `tpm2-blob` and `tpm2-policy-hash`: both strings, or both arrays of the same length.
fn shards(members: &mut Members<'_>) -> Result<(Shard, Option<Shard>), TokenError> {
    let (blobs, digests) = (one_or_more(members, "tpm2-blob")?, one_or_more(members, "tpm2-policy-hash")?);
    if blobs.len() != digests.len() {
        return Err(TokenError::Shards);
    }
    let mut shards = blobs.into_iter().zip(digests).map(|(blob, digest)| -> Result<Shard, TokenError> {
        let bytes = Base64::decode_vec(blob).map_err(|_| members.wrong("tpm2-blob", "is not base64"))?;
        Ok((Sealed::parse(&bytes)?, hex::decode(digest).ok_or(TokenError::PolicyDigest)?))
    });
    match (shards.next(), shards.next(), shards.next()) {
        (Some(first), second, None) => Ok((first?, second.transpose()?)),
        _ => Err(TokenError::Shards),
    }
}

fn one_or_more<'a>(members: &mut Members<'a>, name: &str) -> Result<Vec<&'a str>, TokenError> {
    let texts: Option<_> = match members.value(name)? {
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        item => item.as_str().map(|text| vec![text]),
    };
    Ok(texts.ok_or_else(|| members.wrong(name, "is neither a string nor an array of strings"))?)
}

fn signed(members: &mut Members<'_>) -> Result<Option<Signed>, TokenError> {
    let key = present(members, "tpm2_pubkey", Members::base64)?;
    let pcrs = members.optional("tpm2_pubkey_pcrs").map_or(Ok(PcrMask::EMPTY), mask)?;
    let reference = present(members, "tpm2_pubkey_ref", Members::text)?.map(str::to_owned);
    match key {
        Some(key) => {
            let key = String::from_utf8(key).map_err(|_| TokenError::Signed)?;
            Ok(Some(Signed { key, pcrs, reference }))
        }
        None if pcrs.is_empty() && reference.is_none() => Ok(None),
        None => Err(TokenError::Signed),
    }
}

fn present<'a, T>(
    members: &mut Members<'a>,
    name: &str,
    take: impl Fn(&mut Members<'a>, &str) -> Result<T, HeaderError>,
) -> Result<Option<T>, HeaderError> {
    if members.has(name) { take(members, name).map(Some) } else { Ok(None) }
}

fn switch(members: &mut Members<'_>, name: &'static str) -> Result<bool, TokenError> {
    let value = members.optional(name).map_or(Some(false), Value::as_bool);
    Ok(value.ok_or_else(|| members.wrong(name, "is not a boolean"))?)
}

fn mask(value: &Value) -> Result<PcrMask, TokenError> {
    let pcr = |item: &Value| item.as_u64().and_then(|number| u8::try_from(number).ok()).and_then(Pcr::new);
    let items = value.as_array().ok_or(TokenError::Pcrs)?;
    items.iter().map(|item| pcr(item).ok_or(TokenError::Pcrs)).collect()
}

/// The token's type.
pub const TYPE: &str = token_type::SYSTEMD_TPM2;

#[cfg(test)]
mod tests;
