//! A key broker in the measured configuration: its address, and the pin that identifies it. Only the pin is
//! trusted; certificate authorities of a distribution are not.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::certificate::Certificate;
use super::server_url::ServerUrl;
use crate::base::hex;

/// A configured key broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct Server {
    /// Its address.
    pub url: ServerUrl,
    /// What identifies it.
    pub pin: Pin,
}

/// What identifies a key broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Certificate authorities. The server's certificate chain must end at one of them and carry the server's
    /// name.
    Ca(Authorities),
    /// SHA-256 of the `SubjectPublicKeyInfo` of the server's own certificate.
    Spki([u8; 32]),
    /// Nothing: plain HTTP.
    #[cfg(feature = "test-double")]
    Nothing,
}

/// One to eight certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    pem: String,
    certificates: Vec<Vec<u8>>,
}

impl Authorities {
    /// Parses PEM text that contains only certificates.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(pem: &str) -> Result<Self, &'static str> {
        let mut certificates = Vec::new();
        for block in pem.trim().split_inclusive(PEM_END) {
            let (label, document) =
                der::Document::from_pem(block.trim()).map_err(|_| "kbs.servers: ca is not PEM text")?;
            if label != "CERTIFICATE" || Certificate::parse(document.as_bytes()).is_none() {
                return Err("kbs.servers: ca is not a certificate");
            }
            certificates.push(document.as_bytes().to_vec());
        }
        if (1..=8).contains(&certificates.len()) {
            Ok(Self { pem: pem.to_owned(), certificates })
        } else {
            Err("kbs.servers: ca has 1 to 8 certificates")
        }
    }

    /// The certificates in DER.
    #[must_use]
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(authorities) => {
                f.write_str("ca")?;
                authorities
                    .certificates
                    .iter()
                    .try_for_each(|der| write!(f, " sha256:{}", hex::encode(&Sha256::digest(der))))
            }
            Self::Spki(digest) => write!(f, "spki sha256:{}", hex::encode(digest)),
            #[cfg(feature = "test-double")]
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// In the configuration's form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spki: Option<String>,
}

impl TryFrom<Text> for Server {
    type Error = &'static str;

    fn try_from(text: Text) -> Result<Self, Self::Error> {
        let url = ServerUrl::parse(&text.url)
            .ok_or("kbs.servers: a url is https://HOST or https://HOST:PORT, without a path")?;
        let pin = match (text.ca, text.spki) {
            (Some(pem), None) => Pin::Ca(Authorities::from_pem(&pem)?),
            (None, Some(digest)) => Pin::Spki(
                hex::decode(&digest).ok_or("kbs.servers: spki is SHA-256 in 64 hexadecimal digits")?,
            ),
            #[cfg(feature = "test-double")]
            (None, None) if url.as_str().starts_with("http:") => Pin::Nothing,
            _ => return Err("kbs.servers: each has either ca (PEM) or spki (SHA-256 of its public key)"),
        };
        Ok(Self { url, pin })
    }
}

impl From<Server> for Text {
    fn from(server: Server) -> Self {
        let url = server.url.to_string();
        match server.pin {
            Pin::Ca(authorities) => Self { url, ca: Some(authorities.pem), spki: None },
            Pin::Spki(digest) => Self { url, ca: None, spki: Some(hex::encode(&digest)) },
            #[cfg(feature = "test-double")]
            Pin::Nothing => Self { url, ca: None, spki: None },
        }
    }
}

/// RFC 7468, 5.1.
const PEM_END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server(value: serde_json::Value) -> Result<Server, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn a_server_has_an_address_and_exactly_one_pin() {
        let digest = "5a".repeat(32);
        let ca = super::super::certificate::tests::PEM;
        for good in [
            json!({"url": "https://kbs.example", "spki": digest}),
            json!({"url": "https://192.0.2.1:8080", "ca": ca}),
            json!({"url": "https://[2001:db8::1]:8080", "ca": format!("{ca}\n{ca}")}),
        ] {
            let parsed = server(good.clone()).unwrap();
            assert_eq!(serde_json::to_value(parsed).unwrap(), good);
        }
        for bad in [
            json!({"url": "https://kbs.example"}),
            json!({"url": "https://kbs.example", "spki": digest, "ca": ca}),
            json!({"url": "https://kbs.example", "spki": "5a"}),
            json!({"url": "https://kbs.example", "ca": ""}),
            json!({"url": "https://kbs.example", "ca": "/etc/ssl/ca.pem"}),
            json!({"url": "https://kbs.example", "ca": ca.replace("MII", "MIX")}),
            json!({"url": "https://kbs.example", "ca": format!("{ca}x")}),
            json!({"url": "https://kbs.example", "ca": ca.replace("CERTIFICATE", "PUBLIC KEY")}),
            json!({"url": "https://kbs.example", "spki": digest, "insecure": true}),
        ] {
            assert!(server(bad.clone()).is_err(), "{bad}");
        }
    }
}
