//! Parses the values of EFI variables in efivarfs's form.

use super::guid::Guid;

/// The UUID in `LoaderDevicePartUUID`; `None` if the value is malformed. The content is four bytes of
/// attributes (Documentation/filesystems/efivarfs.rst), then the UUID's text in UTF-16LE with a final NUL
/// (systemd's Boot Loader Interface).
#[must_use]
pub fn partition_uuid(content: &[u8]) -> Option<Guid> {
    let (_attributes, text) = content.split_first_chunk::<4>()?;
    let (units, rest) = text.as_chunks::<2>();
    let (last, units) = units.split_last()?;
    if !rest.is_empty() || u16::from_le_bytes(*last) != 0 {
        return None;
    }
    let text: String = char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit)))
        .collect::<Result<_, _>>()
        .ok()?;
    Guid::parse(&text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(text: &str) -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [6, 0, 0, 0].into_iter().chain(units).collect()
    }

    #[test]
    fn the_value_that_systemd_stub_writes_is_read() {
        let uuid = Guid::parse("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(partition_uuid(&variable("C12A7328-F81F-11D2-BA4B-00A0C93EC93B\0")), uuid);
        assert_eq!(partition_uuid(&variable("c12a7328-f81f-11d2-ba4b-00a0c93ec93b\0")), uuid);
    }

    #[test]
    fn anything_else_is_malformed() {
        let good = variable("C12A7328-F81F-11D2-BA4B-00A0C93EC93B\0");
        for length in 0..good.len() {
            assert_eq!(partition_uuid(&good[..length]), None, "{length}");
        }
        for text in [
            "\0",
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B\0\0",
            "{12A7328-F81F-11D2-BA4B-00A0C93EC93B\0",
            "\u{1f600}\0",
        ] {
            assert_eq!(partition_uuid(&variable(text)), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(content: Vec<u8>) {
            let _ = partition_uuid(&content);
        }
    }
}
