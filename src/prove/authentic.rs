//! Decides whether the owner made a volume, by the pins and keys of the measured configuration. The token is
//! untrusted.
//!
//! A binding cannot show this: anybody who knows the public half of the TPM's parent key can seal a secret of
//! their own, which unseals here and binds a volume of theirs.

use super::settings::Authentic;
use crate::format::luks::binding::VolumeKeyDigest;
use crate::format::owner_key::KeyId;
use crate::format::token::claims::Claims;

/// The result of the proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The owner made the volume.
    Proven(Authenticity),
    /// There is no proof, for this reason.
    Missing(Missing),
    /// A signature does not verify.
    Invalid,
    /// The key broker says that the key belongs to another volume.
    OtherVolume,
}

/// Who released the secret that opened the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The TPM, which unseals whatever was sealed to it, no matter who sealed it.
    Tpm,
    /// A key broker that the configuration pins. It holds keys of the owner's volumes only.
    KeyBroker {
        /// The volume key that the secret is for, if the key broker has it on record.
        volume_key: Option<VolumeKeyDigest>,
    },
}

/// The proof that the owner made a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticity {
    /// The configuration pins this volume's key.
    Pinned,
    /// A key of the configuration verifies the signature of the binding's message.
    Signed(KeyId),
    /// The secret came from a key broker that the configuration pins.
    KeyBroker,
}

/// Why a volume has no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The volume offered nothing that the configuration could check.
    Proof,
    /// A signature by a key that the configuration does not name.
    UnknownSigner,
    /// The configuration pins volumes, but not this one.
    NotPinned,
}

/// Judges a volume by the digest of its key, the message of its keyslot's binding, and who released the
/// secret. No other proof makes up for an invalid signature or for the key document of another volume. A key
/// broker does make up for a volume that the configuration neither pins nor has a key for, if the
/// configuration allows that.
#[must_use]
pub fn judge(
    trusted: &Authentic,
    origin: Origin,
    proof: Option<&Claims>,
    message: &[u8],
    volume_key: VolumeKeyDigest,
) -> Verdict {
    if let Origin::KeyBroker { volume_key: Some(named) } = origin
        && named != volume_key
    {
        return Verdict::OtherVolume;
    }
    match (by_configuration(trusted, proof, message, volume_key), origin) {
        (Verdict::Missing(_), Origin::KeyBroker { .. }) if trusted.key_broker => {
            Verdict::Proven(Authenticity::KeyBroker)
        }
        (verdict, _) => verdict,
    }
}

/// The result by the configuration's own pins and keys.
fn by_configuration(
    trusted: &Authentic,
    proof: Option<&Claims>,
    message: &[u8],
    volume_key: VolumeKeyDigest,
) -> Verdict {
    if trusted.volume_keys.contains(&volume_key) {
        return Verdict::Proven(Authenticity::Pinned);
    }
    let unpinned = if trusted.volume_keys.is_empty() { Missing::Proof } else { Missing::NotPinned };
    let Some((proof, signature)) = proof.and_then(|proof| Some((proof, proof.signature.as_ref()?))) else {
        return Verdict::Missing(unpinned);
    };
    // If the token does not name its signer, every key is tried.
    let named = |key: &KeyId| proof.signer.is_none_or(|signer| signer == *key);
    let mut candidates = trusted.owner_keys.iter().filter(|key| named(&key.id())).peekable();
    if candidates.peek().is_none() {
        return Verdict::Missing(Missing::UnknownSigner);
    }
    match candidates.find(|key| key.verify(message, signature)) {
        Some(key) => Verdict::Proven(Authenticity::Signed(key.id())),
        None => Verdict::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::{Secret, VolumeKey};
    use crate::format::luks::binding::Binding;
    use crate::format::owner_key::{PublicKey, Signature};
    use crate::provision::signing_key::SigningKey;

    const MESSAGE: &[u8] = b"message";

    fn key() -> SigningKey {
        SigningKey::from_pem(&Secret::copy_of(OWNER_KEY.as_bytes())).unwrap()
    }

    fn other() -> PublicKey {
        PublicKey::from_pem(OTHER_PUBLIC_KEY).unwrap()
    }

    fn digest(byte: u8) -> VolumeKeyDigest {
        VolumeKeyDigest::of(&VolumeKey::new(Secret::new(vec![byte; 64])))
    }

    fn proof(message: &[u8]) -> Claims {
        let key = key();
        Claims::new(Binding::new([0; 32])).signed(key.public().id(), key.sign(message).unwrap())
    }

    fn trusting(volume_keys: Vec<VolumeKeyDigest>, owner_keys: Vec<PublicKey>) -> Authentic {
        Authentic { volume_keys, owner_keys, ..Authentic::default() }
    }

    fn verdict(trusted: &Authentic, proof: Option<&Claims>) -> Verdict {
        judge(trusted, Origin::Tpm, proof, MESSAGE, digest(1))
    }

    fn delivered(trusted: &Authentic, proof: Option<&Claims>, named: Option<u8>) -> Verdict {
        let origin = Origin::KeyBroker { volume_key: named.map(digest) };
        judge(trusted, origin, proof, MESSAGE, digest(1))
    }

    #[test]
    fn a_pin_or_a_signature_suffices() {
        let signer = key().public().clone();
        assert_eq!(verdict(&trusting(vec![digest(1)], vec![]), None), Verdict::Proven(Authenticity::Pinned));
        assert_eq!(
            verdict(&trusting(vec![digest(2), digest(1)], vec![other()]), None),
            Verdict::Proven(Authenticity::Pinned)
        );
        let id = signer.id();
        assert_eq!(
            verdict(&trusting(vec![], vec![signer.clone()]), Some(&proof(MESSAGE))),
            Verdict::Proven(Authenticity::Signed(id))
        );
        let both = trusting(vec![digest(2)], vec![other(), signer]);
        assert_eq!(verdict(&both, Some(&proof(MESSAGE))), Verdict::Proven(Authenticity::Signed(id)));
    }

    #[test]
    fn every_reason_for_no_proof_has_its_name() {
        let signer = key().public().clone();
        for (trusted, proof, missing) in [
            (trusting(vec![], vec![]), None, Missing::Proof),
            (trusting(vec![], vec![signer.clone()]), None, Missing::Proof),
            (trusting(vec![digest(2)], vec![]), None, Missing::NotPinned),
            (trusting(vec![digest(2)], vec![signer]), None, Missing::NotPinned),
            (trusting(vec![], vec![other()]), Some(proof(MESSAGE)), Missing::UnknownSigner),
            (trusting(vec![], vec![]), Some(proof(MESSAGE)), Missing::UnknownSigner),
        ] {
            assert_eq!(verdict(&trusted, proof.as_ref()), Verdict::Missing(missing));
        }
    }

    #[test]
    fn a_signature_of_another_message_is_invalid_whether_or_not_it_names_its_signer() {
        let trusted = trusting(vec![], vec![key().public().clone(), other()]);
        let mut stolen = proof(b"another message");
        assert_eq!(verdict(&trusted, Some(&stolen)), Verdict::Invalid);
        stolen.signer = None;
        assert_eq!(verdict(&trusted, Some(&stolen)), Verdict::Invalid);
        stolen.signature = Signature::new(vec![0; 70]);
        assert_eq!(verdict(&trusted, Some(&stolen)), Verdict::Invalid);
    }

    #[test]
    fn a_key_broker_vouches_for_the_volume_whose_key_it_has_and_for_no_other() {
        let nobody = trusting(vec![], vec![]);
        for named in [None, Some(1)] {
            assert_eq!(delivered(&nobody, None, named), Verdict::Proven(Authenticity::KeyBroker));
        }
        assert_eq!(delivered(&nobody, None, Some(2)), Verdict::OtherVolume);
        // A pin in the configuration does not make up for the key broker naming another volume.
        assert_eq!(delivered(&trusting(vec![digest(1)], vec![]), None, Some(2)), Verdict::OtherVolume);
    }

    #[test]
    fn where_the_configuration_says_so_a_key_broker_vouches_for_nothing() {
        let signer = key().public().clone();
        let strict =
            |volume_keys, owner_keys| Authentic { key_broker: false, ..trusting(volume_keys, owner_keys) };
        for named in [None, Some(1)] {
            assert_eq!(delivered(&strict(vec![], vec![]), None, named), Verdict::Missing(Missing::Proof));
        }
        assert_eq!(
            delivered(&strict(vec![digest(2)], vec![]), None, None),
            Verdict::Missing(Missing::NotPinned)
        );
        let signed = Verdict::Proven(Authenticity::Signed(signer.id()));
        assert_eq!(delivered(&strict(vec![], vec![signer]), Some(&proof(MESSAGE)), Some(1)), signed);
    }

    #[test]
    fn a_key_broker_does_not_make_up_for_a_signature_that_does_not_hold() {
        let trusted = trusting(vec![], vec![key().public().clone()]);
        assert_eq!(delivered(&trusted, Some(&proof(b"another message")), None), Verdict::Invalid);
        let signed = Verdict::Proven(Authenticity::Signed(key().public().id()));
        assert_eq!(delivered(&trusted, Some(&proof(MESSAGE)), None), signed);
    }

    // openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256; made for this test.
    const OWNER_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHGTE9DqW3A1G9BI4\n\
V9CVWSRph9aqTeT/8vdvnZnai9yhRANCAATnbNBtpsXZEcZ71Ray3X14U18KeJQS\n\
3mA96FyYNCjpIcGHsxjv+0yptXjvDrugHXA/Wf6ayoNZ2x991bkXZaQ6\n\
-----END PRIVATE KEY-----";
    // openssl genpkey -algorithm Ed25519 | openssl pkey -pubout
    const OTHER_PUBLIC_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEAOVPQVtbWM+9eK+TgyKsOTLG89mh1448zSFk2NZLS/gY=\n\
-----END PUBLIC KEY-----";
}
