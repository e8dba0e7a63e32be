//! Certificates of key brokers, in PEM: the authority that images pin, and what else a server may show.
//!
//! Valid ones begin long before any release, so that they stay valid when a clock is set back.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::tree::Tree;

/// What a server shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// The pinned authority's, for all names and addresses that brokers have here.
    Right,
    /// The same by another authority.
    Stranger,
    /// The pinned authority's, which ended with the year 2020.
    Expired,
}

/// All certificates.
#[derive(Debug, Clone)]
pub struct Pki(Artefact);

impl Pki {
    /// Makes them, once.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new(cache: &Cache, tools: &Tree) -> Result<Self> {
        let key = Key::of("pki 1").and(tools.root().as_os_str().as_encoded_bytes()).and(MAKE);
        let artefact = cache.artefact("pki", key, |path| {
            tools.run("sh", ["-c".as_ref(), MAKE.as_ref(), "sh".as_ref(), path.as_os_str()]).map(drop)
        })?;
        Ok(Self(artefact))
    }

    /// The pinned authority, in PEM.
    ///
    /// # Errors
    /// When the artefact is damaged.
    pub fn authority(&self) -> Result<String> {
        Ok(fs::read_to_string(self.0.file("ca.pem"))?)
    }

    /// A certificate and its key.
    pub fn files(&self, certificate: Certificate) -> [PathBuf; 2] {
        let name = match certificate {
            Certificate::Right => "right",
            Certificate::Stranger => "stranger",
            Certificate::Expired => "expired",
        };
        [format!("{name}.pem"), format!("{name}.key")].map(|file| self.0.file(&file))
    }

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.0
    }
}

/// Arguments: the directory.
const MAKE: &str = r#"set -e
cd "$1"
echo 'subjectAltName=DNS:kbs.test,IP:10.0.2.2,IP:fec0::2,IP:127.0.0.1,IP:::1' > names
new() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
for name in ca other; do
    new $name
    openssl req -x509 -new -key $name.key -subj /CN=$name -not_before 20200101000000Z -not_after 21000101000000Z \
        -out $name.pem
done
# Name, authority, last day.
leaf() {
    new "$1"
    openssl req -new -key "$1.key" -subj /CN=kbs.test -out request
    openssl x509 -req -in request -CA "$2.pem" -CAkey "$2.key" -not_before 20200101000000Z -not_after "$3" \
        -extfile names -out "$1.pem"
}
leaf right ca 21000101000000Z
leaf stranger other 21000101000000Z
leaf expired ca 20201231000000Z
rm request
"#;
