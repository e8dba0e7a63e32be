//! GUIDs of GPT disks and EFI variables. Both are untrusted, and any sixteen bytes are a valid GUID.

use std::fmt;

/// A GUID, as the number that its text form spells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(u128);

impl Guid {
    /// The type of an unused partition entry (UEFI 2.10, table 5.7).
    pub const ZERO: Self = Self(0);

    /// EFI system partition (UEFI 2.10, table 5.7).
    pub const ESP: Self = Self(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);

    /// Extended boot loader partition (UAPI.2 Discoverable Partitions Specification).
    pub const XBOOTLDR: Self = Self(0xbc13c2ff_59e6_4262_a352_b275fd6f7172);

    /// Root partition of the architecture that this program is built for (UAPI.2 Discoverable Partitions
    /// Specification).
    pub const NATIVE_ROOT: Self = Self(NATIVE_ROOT);

    /// From the 16 bytes on disk: the first three fields are little-endian, the rest is in order (UEFI 2.10,
    /// appendix A).
    #[must_use]
    pub const fn from_disk(bytes: [u8; 16]) -> Self {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7] = bytes;
        Self(u128::from_be_bytes([a3, a2, a1, a0, b1, b0, c1, c0, d0, d1, d2, d3, d4, d5, d6, d7]))
    }

    /// From the text form `c12a7328-f81f-11d2-ba4b-00a0c93ec93b`, in either case; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = 0_usize;
        let mut value = 0_u128;
        for (position, character) in text.chars().enumerate() {
            match position {
                8 | 13 | 18 | 23 if character == '-' => {}
                8 | 13 | 18 | 23 => return None,
                _ => {
                    // The count below allows 32 digits, so no bit is shifted out of an accepted value.
                    value = value.wrapping_shl(4) | u128::from(character.to_digit(16)?);
                    digits = digits.checked_add(1)?;
                }
            }
        }
        (digits == 32 && text.len() == TEXT_LENGTH).then_some(Self(value))
    }
}

impl fmt::Display for Guid {
    /// The lower-case text form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let mut rest = hex.as_str();
        for (position, width) in [8, 4, 4, 4, 12].into_iter().enumerate() {
            let (field, tail) = rest.split_at(width);
            let dash = if position == 0 { "" } else { "-" };
            write!(f, "{dash}{field}")?;
            rest = tail;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Characters of the text form.
const TEXT_LENGTH: usize = 36;

#[cfg(target_arch = "x86_64")]
const NATIVE_ROOT: u128 = 0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709;
#[cfg(target_arch = "aarch64")]
const NATIVE_ROOT: u128 = 0xb921b045_1df0_41c3_af44_4c6f280d3fae;
#[cfg(target_arch = "s390x")]
const NATIVE_ROOT: u128 = 0x5eead9a9_fe09_4a1e_a1d7_520d00531306;
#[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
const NATIVE_ROOT: u128 = 0xc31c45e6_3f39_412e_80fb_4809c4980599;
#[cfg(target_arch = "riscv64")]
const NATIVE_ROOT: u128 = 0x72ec70a6_cf74_40e6_bd49_4bda08e8f224;
#[cfg(target_arch = "loongarch64")]
const NATIVE_ROOT: u128 = 0x77055800_792c_4f94_b39a_98c91b762bb6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The UEFI specification's own example: an ESP's type as it appears on disk.
    #[test]
    fn the_first_three_fields_are_little_endian_on_disk() {
        let disk =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(Guid::from_disk(disk), Guid::ESP);
        assert_eq!(Guid::ESP.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }

    #[test]
    fn only_the_text_form_is_parsed() {
        for text in [
            "",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b0",
            "c12a7328f81f-11d2-ba4b-00a0c93ec93b-",
            "{12a7328-f81f-11d2-ba4b-00a0c93ec93b}",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec9é",
            "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        ] {
            assert_eq!(Guid::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_survives_a_round_trip_in_either_case(bytes: [u8; 16]) {
            let guid = Guid::from_disk(bytes);
            prop_assert_eq!(Guid::parse(&guid.to_string()), Some(guid));
            prop_assert_eq!(Guid::parse(&guid.to_string().to_uppercase()), Some(guid));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text: String) {
            let _ = Guid::parse(&text);
        }
    }
}
