//! Builds a TLS configuration that trusts only a pin.
//!
//! TLS 1.3 only, with ring; no client certificate, no resumption, no key log. The clock is untrusted: setting
//! it back must not revive an expired certificate, so validity is judged at the later of the clock and the
//! image's own time.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms, ring,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::SigningKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};

use super::certificate::Certificate;
use super::server::Pin;

/// The configuration for a server with this pin.
pub(super) fn client_config(pin: &Pin, earliest: u64) -> Result<ClientConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = Pinned {
        trust: Trust::of(pin, &provider)?,
        algorithms: provider.signature_verification_algorithms,
        earliest: UnixTime::since_unix_epoch(Duration::from_secs(earliest)),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What every TLS 1.3 server supports (RFC 8446, 9.1), limited to algorithms that we need anyway. They are
/// named one by one, so that the others stay out of the executable.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![ring::kx_group::SECP256R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Random,
        key_provider: &NoClientKey,
    }
}

/// The kernel's random numbers.
#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(buffer).map_err(|_| GetRandomFailed)
    }
}

/// We authenticate by evidence, never with a client certificate.
#[derive(Debug)]
struct NoClientKey;

impl KeyProvider for NoClientKey {
    fn load_private_key(&self, _key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("there are no client keys".to_owned()))
    }
}

#[derive(Debug)]
struct Pinned {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
    earliest: UnixTime,
}

#[derive(Debug)]
enum Trust {
    Ca(Arc<WebPkiServerVerifier>),
    Spki([u8; 32]),
}

impl Trust {
    fn of(pin: &Pin, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        match pin {
            Pin::Spki(digest) => Ok(Self::Spki(*digest)),
            Pin::Ca(authorities) => {
                let mut roots = RootCertStore::empty();
                for der in authorities.certificates() {
                    roots.add(CertificateDer::from_slice(der))?;
                }
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
                verifier.build().map(Self::Ca).map_err(|error| Error::General(error.to_string()))
            }
            #[cfg(feature = "test-double")]
            Pin::Nothing => Err(Error::General("no pin".to_owned())),
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let now = now.max(self.earliest);
        match &self.trust {
            Trust::Ca(verifier) => verifier.verify_server_cert(leaf, intermediates, name, ocsp, now),
            Trust::Spki(digest) => judge(leaf, digest, now.as_secs())
                .map(|()| ServerCertVerified::assertion())
                .map_err(Error::from),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a leaf certificate has the pinned key and is valid. Its name does not matter: nobody else has that
/// key.
fn judge(leaf: &[u8], pin: &[u8; 32], now: u64) -> Result<(), CertificateError> {
    let certificate = Certificate::parse(leaf).ok_or(CertificateError::BadEncoding)?;
    if certificate.spki_digest() != *pin {
        Err(CertificateError::ApplicationVerificationFailure)
    } else if !certificate.is_valid_at(now) {
        Err(CertificateError::Expired)
    } else {
        Ok(())
    }
}

/// Algorithms for signatures of certificates and of the handshake.
const SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        webpki::ring::ECDSA_P256_SHA256,
        webpki::ring::ECDSA_P256_SHA384,
        // The default of `openssl x509 -req` with an authority on P-384.
        webpki::ring::ECDSA_P384_SHA256,
        webpki::ring::ECDSA_P384_SHA384,
        webpki::ring::ED25519,
        webpki::ring::RSA_PKCS1_2048_8192_SHA256,
        webpki::ring::RSA_PKCS1_2048_8192_SHA384,
        webpki::ring::RSA_PKCS1_2048_8192_SHA512,
        webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        webpki::ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[webpki::ring::ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[webpki::ring::ECDSA_P384_SHA384]),
        (SignatureScheme::ED25519, &[webpki::ring::ED25519]),
        (SignatureScheme::RSA_PSS_SHA256, &[webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA512, &[webpki::ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::certificate::tests::PEM;

    #[test]
    fn a_pinned_leaf_has_that_key_and_is_valid() {
        let leaf = der::Document::from_pem(PEM).unwrap().1.into_vec();
        let pin = Certificate::parse(&leaf).unwrap().spki_digest();
        let within = 1_800_000_000;
        assert_eq!(judge(&leaf, &pin, within), Ok(()));
        assert_eq!(judge(&leaf, &[0; 32], within), Err(CertificateError::ApplicationVerificationFailure));
        assert_eq!(judge(&leaf, &pin, 1_900_000_000), Err(CertificateError::Expired));
        assert_eq!(judge(&leaf[1..], &pin, within), Err(CertificateError::BadEncoding));
    }
}
