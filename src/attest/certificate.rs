//! Parses the parts of an untrusted certificate that a pinned key needs: public key and validity.
//! `rustls-webpki` judges chains of certificates.

use der::asn1::{GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber};
use sha2::{Digest, Sha256};

/// A certificate's fields (RFC 5280, 4.1), as slices of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    spki: &'a [u8],
    /// Seconds since 1970.
    not_before: u64,
    not_after: u64,
}

impl<'a> Certificate<'a> {
    /// Parses the outer structure; `None` if it is not a certificate.
    #[must_use]
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = SliceReader::new(der).ok()?;
        let certificate = outer
            .sequence(|reader| {
                let certificate = reader.sequence(to_be_signed)?;
                // signatureAlgorithm, signatureValue: unused, since the handshake shows that the server has
                // the key.
                reader.tlv_bytes()?;
                reader.tlv_bytes()?;
                Ok::<_, der::Error>(certificate)
            })
            .ok()?;
        outer.finish().ok()?;
        Some(certificate)
    }

    /// The `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub const fn spki(&self) -> &'a [u8] {
        self.spki
    }

    /// The digest to compare with a pin.
    #[must_use]
    pub fn spki_digest(&self) -> [u8; 32] {
        Sha256::digest(self.spki).into()
    }

    /// Whether it is valid at `time` (seconds since 1970), both ends included.
    #[must_use]
    pub const fn is_valid_at(&self, time: u64) -> bool {
        self.not_before <= time && time <= self.not_after
    }
}

fn to_be_signed<'a>(reader: &mut SliceReader<'a>) -> Result<Certificate<'a>, der::Error> {
    let version = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
    if Tag::peek(reader)? == version {
        reader.tlv_bytes()?;
    }
    // serialNumber, signature, issuer.
    for _ in 0..3 {
        reader.tlv_bytes()?;
    }
    let (not_before, not_after) =
        reader.sequence(|reader| Ok::<_, der::Error>((time(reader)?, time(reader)?)))?;
    // subject.
    reader.tlv_bytes()?;
    let spki = reader.tlv_bytes()?;
    // Unique identifiers and extensions.
    while !reader.is_finished() {
        reader.tlv_bytes()?;
    }
    Ok(Certificate { spki, not_before, not_after })
}

/// RFC 5280, 4.1.2.5: `UTCTime` up to 2049.
fn time(reader: &mut SliceReader<'_>) -> Result<u64, der::Error> {
    let since = match Tag::peek(reader)? {
        Tag::UtcTime => UtcTime::decode(reader)?.to_unix_duration(),
        _ => GeneralizedTime::decode(reader)?.to_unix_duration(),
    };
    Ok(since.as_secs())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::hex;
    use der::Document;
    use proptest::prelude::*;

    // openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=kbs.example -days 365
    //   -set_serial 1
    pub(crate) const PEM: &str = "\
-----BEGIN CERTIFICATE-----
MIIBbjCCARSgAwIBAgIBATAKBggqhkjOPQQDAjAWMRQwEgYDVQQDDAtrYnMuZXhh
bXBsZTAeFw0yNjExMjMwMDMxNTZaFw0yNzExMjMwMDMxNTZaMBYxFDASBgNVBAMM
C2ticy5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEiLg3DsDxUBg0
V55FWay6IkMTnpqyICH4830ITn/N3AQ4oQBhJyYhXiui3eaOcu9mSRLc5exYkuON
o7zX6Lc2uqNTMFEwHQYDVR0OBBYEFEbpet8lTaoN7Mj8FPv3v1PHq27GMB8GA1Ud
IwQYMBaAFEbpet8lTaoN7Mj8FPv3v1PHq27GMA8GA1UdEwEB/wQFMAMBAf8wCgYI
KoZIzj0EAwIDSAAwRQIgTUn8bW2UDcFnhhRk9oDMC2MEQvQe0uEwv/9mX7OgSGQC
IQCwgOrJfWMgjZsFobnwYMFdkCrG18mk6/fPoM7U43qqgQ==
-----END CERTIFICATE-----";
    // openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum
    const SPKI: &str = "180165cd4f8fd921e48b2edc87f0bed9dceecf063d33fb2f7f92188c1e3d8e10";
    // openssl x509 -noout -startdate -enddate, converted to seconds with date.
    const VALIDITY: (u64, u64) = (1_795_393_916, 1_826_929_916);

    fn golden() -> Vec<u8> {
        Document::from_pem(PEM).unwrap().1.into_vec()
    }

    #[test]
    fn key_and_validity_are_what_openssl_says() {
        let der = golden();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(hex::encode(&certificate.spki_digest()), SPKI);
        let (first, last) = VALIDITY;
        assert!(certificate.is_valid_at(first) && certificate.is_valid_at(last));
        assert!(!certificate.is_valid_at(first - 1) && !certificate.is_valid_at(last + 1));
    }

    #[test]
    fn truncation_at_any_byte_and_bytes_behind_are_refused() {
        let mut der = golden();
        for length in 0..der.len() {
            assert_eq!(Certificate::parse(&der[..length]), None, "{length}");
        }
        der.push(0);
        assert_eq!(Certificate::parse(&der), None);
    }

    proptest! {
        #[test]
        fn a_changed_byte_gives_an_answer(position: prop::sample::Index, byte: u8) {
            let mut der = golden();
            let position = position.index(der.len());
            der[position] = byte;
            if let Some(certificate) = Certificate::parse(&der) {
                prop_assert!(certificate.spki().len() < 300);
            }
        }

        #[test]
        fn any_bytes_give_an_answer(der in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::parse(&der);
        }
    }
}
