//! Parses signed PCR policies in the format of `systemd-measure sign` (`tpm2-pcr-signature.json`). The files
//! are untrusted; the TPM checks each signature.
//!
//! Unknown banks and members and entries without a signature are skipped, as in systemd. Malformed content is
//! refused.

use serde_json::Value;
use thiserror::Error;

use crate::base::error::failures;
use crate::base::hex;
use crate::base::json::{JsonError, parse_json};
use crate::base::pcr::{Bank, Pcr, PcrMask};
use base64ct::{Base64, Encoding};

/// The approvals of one or more signature files, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures(Vec<Approval>);

/// One signed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// What it applies to.
    pub subject: Subject,
    /// `pol`: the digest of the approved policy.
    pub policy: [u8; 32],
    /// `sig`: the signature, at most 512 bytes.
    pub signature: Vec<u8>,
}

/// What a signed policy applies to, and what a token searches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The bank of the PCRs.
    pub bank: Bank,
    /// `pcrs`: exactly these PCRs.
    pub pcrs: PcrMask,
    /// `pkfp`: the fingerprint of the key that signed.
    pub fingerprint: [u8; 32],
    /// `ref`: the policy reference.
    pub reference: Option<String>,
}

impl Signatures {
    /// Parses a signature file.
    ///
    /// # Errors
    /// It is not JSON, or not a signature file.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.len() > SIZE_LIMIT {
            return Err(SignatureError::TooLarge);
        }
        let tree = parse_json(bytes)?;
        let banks = tree.as_object().ok_or(SignatureError::NotAnObject)?;
        let mut approvals = Vec::new();
        for (bank, entries) in banks.iter().filter_map(|(name, list)| Some((Bank::from_name(name)?, list))) {
            for entry in entries.as_array().ok_or(SignatureError::NotAList(bank))? {
                let approval = approval(bank, entry).ok_or(SignatureError::Entry(bank))?;
                approvals.extend(approval);
            }
        }
        Ok(Self(approvals))
    }

    /// Appends the approvals of another file.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// The first approval of `policy` for `subject`.
    #[must_use]
    pub fn find(&self, subject: &Subject, policy: &[u8; 32]) -> Option<&Approval> {
        self.about(subject).find(|approval| approval.policy == *policy)
    }

    /// The approvals for `subject`, of any policy.
    pub fn about(&self, subject: &Subject) -> impl Iterator<Item = &Approval> {
        self.0.iter().filter(move |approval| approval.subject == *subject)
    }
}

/// Why a signature file is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// Larger than [`SIZE_LIMIT`].
    #[error("Signature file is larger than {SIZE_LIMIT} bytes")]
    TooLarge,
    /// Not JSON that we accept.
    #[error("Signature file is not JSON")]
    Json(#[from] JsonError),
    /// Not an object of banks.
    #[error("Signature file is not an object of PCR banks")]
    NotAnObject,
    /// A bank whose value is not a list.
    #[error("Signature file has no list for bank {0}")]
    NotAList(Bank),
    /// A list with a malformed entry.
    #[error("Signature file has a malformed entry for bank {0}")]
    Entry(Bank),
}

failures! { SignatureError:
    Self::TooLarge
    | Self::Json(_)
    | Self::NotAnObject
    | Self::NotAList(_)
    | Self::Entry(_) => "signature-file-malformed", Data, "";
}

/// The approval in an entry: `Some(None)` if the entry is not signed yet, `None` if it is malformed.
fn approval(bank: Bank, entry: &Value) -> Option<Option<Approval>> {
    let members = entry.as_object()?;
    let text = |name: &str| members.get(name).map(Value::as_str);
    let mut pcrs = PcrMask::EMPTY;
    for item in members.get("pcrs")?.as_array()? {
        let pcr = item.as_u64().and_then(|number| u8::try_from(number).ok()).and_then(Pcr::new)?;
        if pcrs.contains(pcr) {
            return None;
        }
        pcrs = pcrs.with(pcr);
    }
    let reference = match text("ref") {
        None => None,
        Some(reference) => Some(reference?.to_owned()),
    };
    let subject = Subject { bank, pcrs, fingerprint: hex::decode(text("pkfp")??)?, reference };
    let policy = hex::decode(text("pol")??)?;
    let Some(signature) = text("sig") else { return Some(None) };
    let signature = Base64::decode_vec(signature?).ok()?;
    let fits = (1..=SIGNATURE_LIMIT).contains(&signature.len());
    fits.then_some(Some(Approval { subject, policy, signature }))
}

/// Bytes; a file with the signatures of four banks and six phases has 14 KiB.
pub const SIZE_LIMIT: usize = 1 << 20;
/// Bytes; an RSA-4096 signature.
const SIGNATURE_LIMIT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const FINGERPRINT: &str = "58bc055ec97b25afb09a8d185ef9d1d0f9910018f1c93f476104a1e885ee88ac";
    const POLICY: &str = "4ff71af61068af0691ff4fb19a58dc695265f97b286d517fea5b79d4c2894e03";

    /// An entry as systemd 252 writes it:
    /// `systemd-measure sign --linux=… --phase=enter-initrd --bank=sha256`.
    fn entry() -> Value {
        json!({"pcrs": [11], "pkfp": FINGERPRINT, "pol": POLICY, "sig": Base64::encode_string(&[0x5a; 256])})
    }

    fn with(member: &str, value: Value) -> Value {
        let mut entry = entry();
        entry[member] = value;
        entry
    }

    fn parse(value: &Value) -> Result<Signatures, SignatureError> {
        Signatures::parse(value.to_string().as_bytes())
    }

    fn subject() -> Subject {
        Subject {
            bank: Bank::Sha256,
            pcrs: PcrMask::EMPTY.with(Pcr::new(11).unwrap()),
            fingerprint: hex::decode(FINGERPRINT).unwrap(),
            reference: None,
        }
    }

    #[test]
    fn an_approval_is_found_by_everything_it_is_about() {
        let signatures =
            parse(&json!({"sha1": [entry()], "sha256": [with("ref", json!("initrd")), entry()]}));
        let (signatures, policy) = (signatures.unwrap(), hex::decode(POLICY).unwrap());
        assert_eq!(signatures.find(&subject(), &policy).unwrap().signature, [0x5a; 256]);
        let initrd = Subject { reference: Some("initrd".to_owned()), ..subject() };
        assert!(signatures.find(&initrd, &policy).is_some());
        for other in [
            Subject { bank: Bank::Sha384, ..subject() },
            Subject { pcrs: subject().pcrs.with(Pcr::FENCE), ..subject() },
            Subject { fingerprint: [0; 32], ..subject() },
            Subject { reference: Some(String::new()), ..subject() },
        ] {
            assert_eq!(signatures.find(&other, &policy), None, "{other:?}");
        }
        assert_eq!((signatures.find(&subject(), &[0; 32]), signatures.about(&subject()).count()), (None, 1));
    }

    #[test]
    fn what_is_of_tomorrow_or_unsigned_is_passed_over() {
        let mut unsigned = with("tbs", json!("00"));
        unsigned.as_object_mut().unwrap().remove("sig");
        for value in [json!({}), json!({"sm3_256": 1, "sha256": []}), json!({"sha256": [unsigned]})] {
            assert_eq!(parse(&value), Ok(Signatures::default()), "{value}");
        }
        assert_eq!(parse(&json!({"sha256": [with("new", json!(1))]})).unwrap().0.len(), 1);
    }

    #[test]
    fn malformed_files_are_refused() {
        assert!(matches!(Signatures::parse(b"{\"sha256\":[],\"sha256\":[]}"), Err(SignatureError::Json(_))));
        assert_eq!(Signatures::parse(&vec![b' '; SIZE_LIMIT + 1]), Err(SignatureError::TooLarge));
        assert_eq!(parse(&json!([])), Err(SignatureError::NotAnObject));
        assert_eq!(parse(&json!({"sha256": {}})), Err(SignatureError::NotAList(Bank::Sha256)));
        for (member, value) in [
            ("pcrs", json!([24])),
            ("pcrs", json!([11, 11])),
            ("pcrs", json!("11")),
            ("pkfp", json!("00")),
            ("pol", json!(null)),
            ("ref", json!(1)),
            ("sig", json!("")),
            ("sig", json!("!")),
            ("sig", json!(Base64::encode_string(&[0; 513]))),
        ] {
            let refused = parse(&json!({"sha256": [with(member, value)]}));
            assert_eq!(refused, Err(SignatureError::Entry(Bank::Sha256)), "{member}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Signatures::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_gives_an_answer(at in 0..500_usize, byte: u8) {
            let mut bytes = json!({"sha256": [entry()]}).to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(signatures) = Signatures::parse(&bytes) {
                prop_assert!(signatures.0.iter().all(|approval| approval.signature.len() <= SIGNATURE_LIMIT));
            }
        }
    }
}
