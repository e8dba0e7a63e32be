//! Generates recovery keys in systemd's form: 256 random bits that a person can write down and type. The
//! caller shows the key once.
//!
//! The form is that of systemd's `src/shared/recovery-key.c`: eight groups of eight letters, joined by
//! dashes, from an alphabet ("modhex") whose keys are in the same place on most keyboards. The text itself is
//! the passphrase.

use qrcodegen_no_heap::{QrCode, QrCodeEcc, Version};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::base::secret::Secret;

/// A recovery key: a passphrase to show once.
pub struct RecoveryKey(Secret);

impl RecoveryKey {
    /// Generates a new one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8; BYTES]) -> Self {
        let mut text = Vec::with_capacity(BYTES * 2 + GROUPS);
        for (index, byte) in bytes.iter().enumerate() {
            if index > 0 && index.is_multiple_of(BYTES / GROUPS) {
                text.push(b'-');
            }
            // A nibble is below 16, so both letters exist.
            let letter = |nibble: u8| ALPHABET.get(usize::from(nibble)).copied().unwrap_or(b'-');
            text.extend([letter(byte >> 4), letter(byte & 0xf)]);
        }
        Self(Secret::new(text))
    }

    /// The passphrase, dashes included.
    #[must_use]
    pub const fn passphrase(&self) -> &Secret {
        &self.0
    }

    /// The passphrase as text, for the one time it is shown.
    #[must_use]
    pub fn text(&self) -> &str {
        // Letters and dashes only.
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }

    /// The passphrase as a QR code for a terminal: lines of half blocks, each two modules high, dark on
    /// light. Never `None` for a text of this length.
    #[must_use]
    pub fn qr_code(&self) -> Option<Zeroizing<String>> {
        let size = QR_VERSION.buffer_len();
        let (mut scratch, mut modules) = (Zeroizing::new(vec![0; size]), Zeroizing::new(vec![0; size]));
        let (first, last) = (Version::MIN, QR_VERSION);
        let (level, boost) = (QrCodeEcc::Medium, true);
        let code =
            QrCode::encode_text(self.text(), &mut scratch, &mut modules, level, first, last, None, boost)
                .ok()?;
        let edge = code.size().checked_add(QUIET)?;
        // One allocation, so that growing leaves no copies behind: at most three bytes a character.
        let mut lines = Zeroizing::new(String::with_capacity(16 * 1024));
        for row in (-QUIET..edge).step_by(2) {
            for column in -QUIET..edge {
                let (upper, lower) =
                    (code.get_module(column, row), code.get_module(column, row.saturating_add(1)));
                // Draws the light modules, since most terminals are dark.
                lines.push(match (upper, lower) {
                    (false, false) => '█',
                    (false, true) => '▀',
                    (true, false) => '▄',
                    (true, true) => ' ',
                });
            }
            lines.push('\n');
        }
        Some(lines)
    }
}

/// systemd's token for the keyslot of a recovery key.
#[must_use]
pub fn token(keyslot: u32) -> Value {
    json!({"type": TYPE, "keyslots": [keyslot.to_string()]})
}

/// The token's type (systemd, `src/cryptenroll/cryptenroll-recovery.c`).
pub const TYPE: &str = "systemd-recovery";
/// systemd's `modhex_alphabet`.
const ALPHABET: &[u8; 16] = b"cbdefghijklnrtuv";
/// systemd's `RECOVERY_KEY_MODHEX_RAW_LENGTH`.
const BYTES: usize = 32;
const GROUPS: usize = 8;
/// 71 characters fit into version 6 at level M (ISO/IEC 18004, table 7).
const QR_VERSION: Version = Version::new(6);
/// Light modules around a code (ISO/IEC 18004, 6.3.8).
const QUIET: i32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_systemds() {
        let mut bytes = [0; BYTES];
        for (byte, value) in bytes.iter_mut().zip((0_u8..=255).step_by(17).cycle()) {
            *byte = value;
        }
        // 00 11 22 … ff, twice.
        assert_eq!(
            RecoveryKey::of(&bytes).text(),
            "ccbbddee-ffgghhii-jjkkllnn-rrttuuvv-ccbbddee-ffgghhii-jjkkllnn-rrttuuvv"
        );
    }

    #[test]
    fn two_keys_are_never_the_same_and_each_has_256_bits() {
        let (one, other) = (RecoveryKey::new().unwrap(), RecoveryKey::new().unwrap());
        assert_ne!(one.text(), other.text());
        let letters = one.text().bytes().filter(|byte| ALPHABET.contains(byte)).count();
        assert_eq!((one.text().len(), letters), (71, 64));
    }

    #[test]
    fn the_qr_code_is_a_square_with_a_quiet_zone() {
        let code = RecoveryKey::of(&[7; BYTES]).qr_code().unwrap();
        let width = code.lines().next().unwrap().chars().count();
        assert!(code.lines().all(|line| line.chars().count() == width));
        // Half as many lines as columns; a code has an odd number of modules.
        assert_eq!(code.lines().count(), width.div_ceil(2));
        assert!(code.lines().next().unwrap().chars().all(|c| c == '█'));
    }
}
