//! Turns a sealed secret into the passphrase of its keyslot, by systemd's convention.

use base64ct::{Base64, Encoding};

use crate::base::secret::Secret;

/// The passphrase of a keyslot whose sealed secret is `secret`.
#[must_use]
pub fn passphrase(secret: &Secret) -> Secret {
    let mut buffer = vec![0; Base64::encoded_len(secret.expose())];
    // The buffer has the length that the library asks for, so encoding cannot fail. If it did, an empty
    // passphrase would open nothing.
    let length = Base64::encode(secret.expose(), &mut buffer).map_or(0, str::len);
    buffer.truncate(length);
    Secret::new(buffer)
}
