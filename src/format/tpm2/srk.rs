//! The parent key that a token names (`tpm2_srk`): an ESYS-serialised persistent handle, whose name and
//! public area must agree. It is untrusted: a consistency check against the TPM, never a pin.

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use thiserror::Error;

use crate::base::bytes;
use crate::base::bytes::{Reader, WireError};
use crate::base::pcr::Bank;

/// A persistent parent key: its handle, and which key was there when the token was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srk {
    handle: u32,
    name: Vec<u8>,
    public: Vec<u8>,
}

impl Srk {
    /// The key at `handle` whose marshalled `TPMT_PUBLIC` is `public`.
    ///
    /// # Errors
    /// The handle is not persistent, or the public area has no usable name.
    pub fn new(handle: u32, public: Vec<u8>) -> Result<Self, SrkError> {
        if handle & HANDLE_TYPE != PERSISTENT {
            return Err(SrkError::NotPersistent(handle));
        }
        if public.len() > PUBLIC_LIMIT {
            return Err(WireError::TooLong { size: public.len(), limit: PUBLIC_LIMIT }.into());
        }
        let name = name_of(&public)?;
        Ok(Self { handle, name, public })
    }

    /// Parses a token's `tpm2_srk` after base64 decoding.
    ///
    /// # Errors
    /// The bytes are not a serialised key, or its name does not match its public area.
    pub fn parse(bytes: &[u8]) -> Result<Self, SrkError> {
        let mut reader = Reader::new(bytes);
        let handle = reader.u32()?;
        let name = reader.sized(NAME_LIMIT)?;
        let kind = reader.u32()?;
        if kind != RESOURCE_KEY {
            return Err(SrkError::NotAKey(kind));
        }
        let public = reader.sized(PUBLIC_LIMIT)?.to_vec();
        reader.finish()?;
        let srk = Self::new(handle, public)?;
        if srk.name == name { Ok(srk) } else { Err(SrkError::Name) }
    }

    /// The bytes of a token's `tpm2_srk` before base64 encoding: the inverse of [`Srk::parse`], and the input
    /// of `Esys_TR_Deserialize`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.handle.to_be_bytes().to_vec();
        // Neither can fail: a name has at most 66 bytes, and `new` bounds the public area.
        let name = bytes::push_sized(&mut out, &self.name);
        out.extend_from_slice(&RESOURCE_KEY.to_be_bytes());
        let public = bytes::push_sized(&mut out, &self.public);
        debug_assert!(name.is_ok() && public.is_ok());
        out
    }

    /// The persistent handle, `0x81xxxxxx`.
    #[must_use]
    pub const fn handle(&self) -> u32 {
        self.handle
    }

    /// The key's name: `TPM_ALG_ID` and digest of the public area (TPM 2.0 Part 1, 16).
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The marshalled `TPMT_PUBLIC`.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

/// The name of the object with this marshalled `TPMT_PUBLIC` (TPM 2.0 Part 1, 16).
///
/// # Errors
/// The public area is too short, or its name algorithm is unknown.
pub fn name_of(public: &[u8]) -> Result<Vec<u8>, SrkError> {
    let mut reader = Reader::new(public);
    let _kind = reader.u16()?;
    let algorithm = reader.u16()?;
    let bank = Bank::from_alg_id(algorithm).ok_or(SrkError::NameAlgorithm(algorithm))?;
    let mut name = algorithm.to_be_bytes().to_vec();
    match bank {
        Bank::Sha1 => name.extend_from_slice(&Sha1::digest(public)),
        Bank::Sha256 => name.extend_from_slice(&Sha256::digest(public)),
        Bank::Sha384 => name.extend_from_slice(&Sha384::digest(public)),
        Bank::Sha512 => name.extend_from_slice(&Sha512::digest(public)),
    }
    Ok(name)
}

/// Why bytes are not a serialised parent key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SrkError {
    /// The buffers are not in wire form.
    #[error("Serialised parent key is malformed")]
    Wire(#[from] WireError),
    /// A handle of another kind.
    #[error("Parent handle {0:#010x} is not persistent")]
    NotPersistent(u32),
    /// A serialised object of another kind.
    #[error("Serialised object of kind {0} is not a key")]
    NotAKey(u32),
    /// A name algorithm that we do not support.
    #[error("Parent key's name algorithm {0:#06x} is unknown")]
    NameAlgorithm(u16),
    /// Name and public area contradict each other.
    #[error("Parent key's name is not that of its public area")]
    Name,
}

/// The handle's most significant octet is its type (TPM 2.0 Part 2, 7.2).
const HANDLE_TYPE: u32 = 0xff00_0000;
/// `TPM_HT_PERSISTENT`.
const PERSISTENT: u32 = 0x8100_0000;
/// `IESYSC_KEY_RSRC` of tpm2-tss, `src/tss2-esys/esys_types.h`.
const RESOURCE_KEY: u32 = 1;
/// Bytes; `TPM_ALG_ID` and a SHA-512 digest.
const NAME_LIMIT: usize = 66;
/// Bytes; a `TPM_ALG_ID` and a SHA-512 digest.
const PUBLIC_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64, Encoding};
    use proptest::prelude::*;

    fn golden() -> Vec<u8> {
        Base64::decode_vec(GOLDEN).unwrap()
    }

    #[test]
    fn what_esys_serialised_is_read_and_written() {
        let srk = Srk::parse(&golden()).unwrap();
        assert_eq!(srk.handle(), 0x8100_0001);
        assert_eq!(srk.public().len(), 90);
        assert_eq!(srk.name()[..2], [0x00, 0x0b]);
        assert_eq!(srk.to_bytes(), golden());
    }

    #[test]
    fn a_public_area_that_is_not_the_names_is_refused() {
        let mut bytes = golden();
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(Srk::parse(&bytes), Err(SrkError::Name));
    }

    #[test]
    fn a_transient_handle_is_refused() {
        let mut bytes = golden();
        bytes[0] = 0x80;
        assert_eq!(Srk::parse(&bytes), Err(SrkError::NotPersistent(0x8000_0001)));
    }

    #[test]
    fn an_nv_index_instead_of_a_key_is_refused() {
        let mut bytes = golden();
        bytes[43] = 2;
        assert_eq!(Srk::parse(&bytes), Err(SrkError::NotAKey(2)));
    }

    #[test]
    fn truncation_at_any_byte_is_refused() {
        let bytes = golden();
        for length in 0..bytes.len() {
            assert!(Srk::parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn parse_and_emit_are_inverse(
            handle in 0x8100_0000_u32..0x8200_0000,
            bank in prop::sample::select(Bank::ALL.to_vec()),
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut public = vec![0x00, 0x23];
            public.extend_from_slice(&bank.alg_id().to_be_bytes());
            public.extend_from_slice(&rest);
            let srk = Srk::new(handle, public).unwrap();
            prop_assert_eq!(Srk::parse(&srk.to_bytes()).unwrap(), srk);
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(srk) = Srk::parse(&bytes) {
                prop_assert_eq!(srk.to_bytes(), bytes);
            }
        }
    }

    // swtpm 0.7.1, tpm2-tools 5.4:
    //   tpm2_createprimary -C o -G ecc256:aes128cfb -c srk.ctx \
    //     -a 'restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda'
    //   tpm2_evictcontrol -C o -c srk.ctx -o srk.handle 0x81000001 && base64 -w0 srk.handle
    const GOLDEN: &str = "\
        gQAAAQAiAAujn+lj8qIbN5afqp2kdqJoIP+snl3pfCBAOwxQFfzXzAAAAAEAWgAjAAsAAwRyAAAABgCAAEMAEAADABAA\
        IEAsVSksP0YMxR3c4wURq8tzjaC+NW2tBv3Nea9+op4pACAB0TfMBdxHT6/fVXHowzoiL3k2iLoIhlm7KQ1zbf+9Xg==";
}
