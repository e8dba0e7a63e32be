//! Why a token cannot be parsed, with a slug for each reason.

use thiserror::Error;

use crate::base::error::failures;
use crate::format::luks::HeaderError;
use crate::format::tpm2::blob::BlobError;
use crate::format::tpm2::srk::SrkError;

/// Why a token cannot be parsed.
#[derive(Debug, Error)]
pub enum TokenError {
    /// A token of another type, which is not a fault.
    #[error("Token is of another type")]
    OtherType,
    /// A member is missing or of the wrong type.
    #[error(transparent)]
    Member(#[from] HeaderError),
    /// Not exactly one keyslot.
    #[error("Token does not name exactly one keyslot")]
    Keyslots,
    /// Sealed objects and policy digests do not match in number, or there are too many.
    #[error("Token has not one or two sealed objects, each with its policy digest")]
    Shards,
    /// The sealed object is malformed.
    #[error("Token's sealed object cannot be read")]
    Blob(#[from] BlobError),
    /// The parent key is malformed.
    #[error("Token's parent key cannot be read")]
    Srk(#[from] SrkError),
    /// The policy digest is not 32 bytes in hexadecimal.
    #[error("Token's policy digest is not that of SHA-256")]
    PolicyDigest,
    /// A malformed list of PCRs.
    #[error("Token's PCRs are not numbers from 0 to 23")]
    Pcrs,
    /// A bank that we do not support.
    #[error("Token's PCR bank is unknown")]
    Bank,
    /// A parent key algorithm that we do not support.
    #[error("Token's primary algorithm is unknown")]
    PrimaryAlg,
    /// A signed policy without its key, or with a key that is not text.
    #[error("Token's signed policy has no usable public key")]
    Signed,
    /// A path that is too long or not printable.
    #[error("Token's path is not 1 to 386 printable characters")]
    Path,
    /// Our own member has another version, or is not what we write.
    #[error("Token's cvm-unlock member is not of version {}", VERSION)]
    Ours,
}

failures! { TokenError:
    Self::OtherType => "token-other-type", Data, "";
    Self::Member(_) => "token-malformed", Data, "";
    Self::Keyslots => "token-keyslots", Data, "";
    Self::Shards => "token-shards", Data, "";
    Self::Blob(_) => "token-blob", Data, "";
    Self::Srk(_) => "token-srk", Data, "";
    Self::PolicyDigest => "token-policy-digest", Data, "";
    Self::Pcrs => "token-pcrs", Data, "";
    Self::Bank => "token-bank", Data, "";
    Self::PrimaryAlg => "token-primary-alg", Data, "";
    Self::Signed => "token-signed", Data, "";
    Self::Path => "token-path", Data, "";
    Self::Ours => "token-binding", Data, "";
}

/// The version of our own member.
pub(super) const VERSION: u32 = 1;
