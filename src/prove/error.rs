//! Why a volume is refused.

use super::authentic::Missing;
use crate::base::error::failures;
use crate::cryptsetup::CryptError;
use crate::format::luks::HeaderError;

/// Why a volume is not ours, or cannot show that it is.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The secret does not open the keyslot, or the key does not match the digest.
    #[error("Opening the keyslot with the secret")]
    Keyslot(#[source] CryptError),
    /// The token's keyslot does not exist in the header.
    #[error("Collecting what the keyslot is bound to")]
    Header(#[source] HeaderError),
    /// The token has no binding.
    #[error("The token does not bind the keyslot's metadata to the sealed secret")]
    Unbound,
    /// The binding is for other metadata.
    #[error("The volume's metadata is not what was bound to the sealed secret")]
    BindingViolated,
    /// The policy does not bind PCR 15.
    #[error("The token's policy does not contain PCR 15: the key can be unsealed again in this boot")]
    FenceIneffective,
    /// Nothing proves who made the volume.
    #[error("{}", match .0 {
        Missing::Proof => "Nothing proves that the volume was made by its owner",
        Missing::UnknownSigner => "The volume is signed by a key that the configuration does not name",
        Missing::NotPinned => "The volume's key is none of those that the configuration pins",
    })]
    Unauthenticated(Missing),
    /// The signature does not cover this volume, or is not by the key that it names.
    #[error("The owner's signature does not hold for this volume")]
    SignatureInvalid,
    /// The key document names another volume key.
    #[error("The key broker names another volume key than the one that the keyslot holds")]
    OtherVolume,
}

failures! { ProveError:
    Self::Keyslot(_) => "keyslot-not-opened", Data,
        "The header may have been replaced; compare it with a backup";
    Self::Header(source) => from source;
    Self::Unbound => "binding-missing", Refused,
        "Enrol with `cvm-unlock enroll`, or let the image's configuration opt in under \"policy\"";
    Self::BindingViolated => "binding-violated", Data, "Somebody edited the header; restore it from a backup";
    Self::FenceIneffective => "fence-ineffective", Refused,
        "Enrol with `cvm-unlock enroll`, or let the image's configuration opt in under \"policy\"";
    Self::Unauthenticated(Missing::Proof) => "volume-unauthenticated", Refused,
        "Enrol with --sign-key= and name its public half under \"authentic\" in the image's configuration";
    Self::Unauthenticated(Missing::UnknownSigner) => "owner-unknown", Refused,
        "Enrol with --sign-key= and name its public half under \"authentic\" in the image's configuration";
    Self::Unauthenticated(Missing::NotPinned) => "volume-key-not-pinned", Refused,
        "Enrol with --sign-key= and name its public half under \"authentic\" in the image's configuration";
    Self::SignatureInvalid => "owner-signature-invalid", Data,
        "The token was edited or taken from another volume; restore the header";
    Self::OtherVolume => "broker-names-another-volume", Data,
        "The header was edited, or the key document at the server is another volume's";
}
