//! What a volume's key is sealed to: PCR values, and keys that sign them. The options of an enrolment are the
//! same for `cvm-unlock enroll` and `systemd-cryptenroll`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::tree::{Tree, output_of};
use crate::encoding::{hex, unhex};

/// PCRs by value, and a key whose signatures stand for the value of PCR 11.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// As `--tpm2-pcrs=` takes them; empty for none.
    pub pcrs: String,
    /// Who signs PCR 11.
    pub signer: Option<PolicyKey>,
    /// What PCR 7 is extended with before the enrolment, which then reads it from the TPM: versions of
    /// systemd-cryptenroll below 255 take no value.
    pub events: Vec<Vec<u8>>,
}

impl Policy {
    /// PCRs by value alone.
    pub fn literal(pcrs: impl Into<String>) -> Self {
        Self { pcrs: pcrs.into(), ..Self::default() }
    }

    /// PCR 11 as `signer` signs it, alone.
    pub fn signed(signer: &PolicyKey) -> Self {
        Self::literal("").and_signed(signer)
    }

    /// These PCRs, and PCR 11 as `signer` signs it.
    #[must_use]
    pub fn and_signed(self, signer: &PolicyKey) -> Self {
        Self { signer: Some(signer.clone()), ..self }
    }

    /// PCR 7 as a TPM has it after these extends of a boot.
    pub fn after(events: &[Vec<u8>]) -> Self {
        Self { pcrs: "7".to_owned(), events: events.to_vec(), ..Self::default() }
    }

    /// Extends PCR 7 of the TPM at `address`, which has just been switched on.
    ///
    /// # Errors
    /// When tpm2-tools fail.
    pub fn replay(&self, tools: &Tree, address: &str) -> Result<()> {
        let events: Vec<_> = self.events.iter().map(|digest| format!("7:sha256={}", hex(digest))).collect();
        if events.is_empty() {
            return Ok(());
        }
        tools.run("tpm2_pcrextend", [format!("--tcti={address}")].iter().chain(&events)).map(drop)
    }

    /// The options of an enrolment.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec![format!("--tpm2-pcrs={}", self.pcrs)];
        if let Some(signer) = &self.signer {
            options.push(format!("--tpm2-public-key={}", signer.public().display()));
            options.push("--tpm2-public-key-pcrs=11".to_owned());
        }
        options
    }

    /// Adds to a key what decides the options.
    #[must_use]
    pub fn mark(&self, key: Key) -> Key {
        let key = self.events.iter().fold(key.and(&self.pcrs), Key::and);
        match &self.signer {
            None => key,
            Some(signer) => key.artefact(&signer.0),
        }
    }
}

/// An RSA key that signs PCR values.
#[derive(Debug, Clone)]
pub struct PolicyKey(Artefact);

impl PolicyKey {
    /// Draws the key of that name, once.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new(cache: &Cache, tools: &Tree, name: &str) -> Result<Self> {
        let key = Key::of("policy key 1").and(tools.root().as_os_str().as_encoded_bytes()).and(name);
        let artefact = cache.artefact("policy-key", key, |path| {
            let private = path.join(PRIVATE).display().to_string();
            let public = path.join(PUBLIC).display().to_string();
            let bits = "rsa_keygen_bits:2048";
            tools.run("openssl", ["genpkey", "-algorithm", "RSA", "-pkeyopt", bits, "-out", &private])?;
            tools.run("openssl", ["pkey", "-in", &private, "-pubout", "-out", &public]).map(drop)
        })?;
        Ok(Self(artefact))
    }

    /// The private half, in PEM.
    pub fn private(&self) -> PathBuf {
        self.0.file(PRIVATE)
    }

    /// The public half, in PEM.
    pub fn public(&self) -> PathBuf {
        self.0.file(PUBLIC)
    }

    /// An entry of a signature file for this value of PCR 11, with a policy reference: what ukify makes from
    /// systemd 262 on, by TPM 2.0 Library, Part 3, 23.7 and 23.16 (PolicyPCR, PolicyAuthorize).
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn approve(&self, tools: &Tree, pcr11: &str, reference: &str) -> Result<Value> {
        let values = Sha256::digest(unhex(pcr11)?);
        let policy = Sha256::digest([&[0; 32], POLICY_PCR_11, values.as_slice()].concat());
        let approved = [policy.as_slice(), Sha256::digest(reference).as_slice()].concat();
        let mut command = tools.command("sh");
        command.args(["-c", SIGN, "sh", &hex(&approved)]).args([self.private(), self.public()]);
        let text = output_of(&mut command, "openssl")?;
        let (signature, fingerprint) = text.trim().split_once('\n').context("OpenSSL printed too little")?;
        Ok(json!({
            "pcrs": [11], "pkfp": fingerprint, "ref": reference, "pol": hex(&policy), "sig": signature,
        }))
    }

    /// What other artefacts depend on.
    pub fn artefact(&self) -> &Artefact {
        &self.0
    }
}

/// TPM_CC_PolicyPCR, then a TPML_PCR_SELECTION of PCR 11 in the SHA-256 bank.
const POLICY_PCR_11: &[u8] = &[0, 0, 1, 0x7f, 0, 0, 0, 1, 0, 0x0b, 3, 0, 8, 0];
/// Arguments: the digits of what is signed, both halves of the key. Prints the signature (Base64) and the
/// fingerprint, which is over the PKCS#1 form of the key.
const SIGN: &str = r#"set -e
perl -e 'print pack "H*", shift' "$1" | openssl dgst -sha256 -sign "$2" | openssl base64 -A
echo
openssl rsa -pubin -in "$3" -RSAPublicKey_out -outform DER 2> /dev/null | openssl dgst -sha256 -r | cut -c 1-64
"#;
const PRIVATE: &str = "private.pem";
const PUBLIC: &str = "public.pem";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_events_make_other_artefacts_and_only_values_are_named_to_the_enrolment() {
        let value = Policy::literal("7:sha256=00");
        let replayed = Policy::after(&[vec![1; 32]]);
        assert_eq!(value.options(), ["--tpm2-pcrs=7:sha256=00"]);
        assert_eq!(replayed.options(), ["--tpm2-pcrs=7"]);
        let root = std::env::temp_dir().join(format!("vm-tests-policy-{}", std::process::id()));
        let cache = Cache::open(&root).unwrap();
        let ids: Vec<_> = [value, replayed, Policy::after(&[vec![2; 32]])]
            .iter()
            .map(|policy| cache.artefact("policy", policy.mark(Key::default()), |_| Ok(())).unwrap().id)
            .collect();
        assert!(
            ids.iter().enumerate().all(|(at, id)| !ids.iter().skip(at + 1).any(|other| id == other)),
            "{ids:?}"
        );
        std::fs::remove_dir_all(root).unwrap();
    }
}
