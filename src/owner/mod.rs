//! The owner: whoever builds the image and enrols its volumes. Keys come in, the public half from the measured
//! configuration, the private half from a file of the administrator's; signatures over a keyslot's binding message, and
//! whether one holds, go out. Trusted: the configuration. A signature lies on the disk, so the host may have written it.

mod key;
mod sign;

pub use key::{KeyError, KeyId, PublicKey, Signature};
pub use sign::{SignError, SigningKey};
