//! Objects made by tpm2-tools, with signed policies.

use std::fs;

use cvm_unlock::base::pcr::Bank;
use cvm_unlock::format::tpm2::blob::Sealed;
use cvm_unlock::format::tpm2::parent::Parent;
use cvm_unlock::format::tpm2::srk::Srk;
use cvm_unlock::format::tpm2::step::{Authorization, PolicyStep};
use cvm_unlock::format::tpm2::{policy_authorize, policy_pcr};
use cvm_unlock::policy::key::{Exponent, PolicyKey};

use super::library::{SECRET, current, mask, open};
use super::swtpm::Swtpm;
use super::systemd::Signer;

/// Objects made by tpm2-tools, with a policy that `signer` may sign.
pub struct Tools {
    pub tpm: Swtpm,
    pub signer: Signer,
    pub key: PolicyKey,
}

impl Tools {
    pub fn new() -> Self {
        let (tpm, signer) = (Swtpm::new(), Signer::new());
        let key = PolicyKey::from_pem(&fs::read_to_string(signer.public()).unwrap()).unwrap();
        fs::write(tpm.file("secret"), SECRET).unwrap();
        Self { tpm, signer, key }
    }

    /// Loads the key into the file `key.ctx`, and its name as computed by the TPM into the file `name`.
    pub fn load_key(&self, exponent: Exponent) {
        let public = self.key.public(exponent);
        fs::write(self.tpm.file("key.pub"), tpm2b(&public)).unwrap();
        self.tpm.tool("tpm2_loadexternal -C o -u key.pub -c key.ctx -n name");
        assert_eq!(fs::read(self.tpm.file("name")).unwrap(), self.key.name(exponent));
    }

    /// Signs `approved ‖ reference` with openssl; returns the raw signature, which is also in the file
    /// `signature`.
    pub fn sign(&self, approved: &[u8], reference: &[u8]) -> Vec<u8> {
        fs::write(self.tpm.file("message"), [approved, reference].concat()).unwrap();
        let private = self.signer.private();
        self.tpm.tool(&format!("openssl dgst -sha256 -sign {} -out signature message", private.display()));
        fs::read(self.tpm.file("signature")).unwrap()
    }

    /// Writes the digest of `TPM2_PolicyAuthorize`, optionally followed by a `TPM2_PolicyPCR`, to the file
    /// `policy`.
    pub fn policy(&self, reference: &[u8], literal: Option<&str>) {
        fs::write(self.tpm.file("reference"), reference).unwrap();
        let option = if reference.is_empty() { "" } else { "-q reference" };
        self.tpm.tool("tpm2_startauthsession -S trial");
        self.tpm.tool(&format!("tpm2_policyauthorize -S trial -n name {option} -L policy"));
        if let Some(pcrs) = literal {
            self.tpm.tool(&format!("tpm2_policypcr -S trial -l {pcrs} -L policy"));
        }
        self.tpm.tool("tpm2_flushcontext trial");
    }

    /// The digest of the present PCR 11.
    pub fn approved(&self) -> [u8; 32] {
        let values = current(&mut open(&self.tpm), Bank::Sha256, mask(&[11]));
        policy_pcr::digest(&values)
    }

    pub fn steps(&self, exponent: Exponent, reference: Option<&str>) -> Vec<PolicyStep> {
        let (approved, reference) = (self.approved(), policy_authorize::reference(reference));
        let signature = self.sign(&approved, &reference);
        let (key, name) = (self.key.public(exponent), self.key.name(exponent));
        let authorization = Authorization { key, name, approved, reference, signature };
        vec![PolicyStep::Pcr(Bank::Sha256, mask(&[11])), PolicyStep::Authorize(Box::new(authorization))]
    }

    /// Makes a primary persistent at `handle`.
    pub fn parent(&self, algorithm: &str, handle: u32) -> Parent {
        self.tpm.tool(&format!("tpm2_createprimary -C o -G {algorithm} -c parent.ctx"));
        self.tpm.tool(&format!("tpm2_evictcontrol -C o -c parent.ctx {handle:#x}"));
        self.tpm.tool("tpm2_flushcontext -t");
        self.tpm.tool(&format!("tpm2_readpublic -c {handle:#x} -o parent.pub -t parent.srk"));
        Parent::Persistent(Srk::parse(&fs::read(self.tpm.file("parent.srk")).unwrap()).unwrap())
    }

    /// Wraps the secret for the parent whose public half is in `parent.pub`, as the files `private`, `public`
    /// and `seed`. Its policy is the key's, without reference.
    pub fn wrap_for_parent(&self) {
        self.load_key(Exponent::Explicit);
        self.policy(&[], None);
        // The emulator has room for three objects, so nothing stays loaded between two steps.
        let step = |line: &str| {
            self.tpm.tool(line);
            self.tpm.tool("tpm2_flushcontext -t");
        };
        step("true");
        step("tpm2_createprimary -C n -c origin.ctx");
        // No attributes, as in an offline enrolment of systemd's.
        step("tpm2_create -C origin.ctx -u public -r local -L policy -i secret -a 0x0");
        step("tpm2_load -C origin.ctx -u public -r local -c object.ctx");
        step("tpm2_loadexternal -C n -u parent.pub -c target.ctx");
        // The same key may approve the duplication: TPM2_PolicyCommandCode(TPM_CC_Duplicate).
        step("tpm2_startauthsession -S trial");
        step("tpm2_policycommandcode -S trial -L duplication TPM2_CC_Duplicate");
        step("tpm2_flushcontext trial");
        let duplication = fs::read(self.tpm.file("duplication")).unwrap();
        self.sign(&duplication, &[]);
        self.tpm
            .tool("tpm2_verifysignature -c key.ctx -g sha256 -m message -s signature -f rsassa -t ticket");
        step("tpm2_startauthsession --policy-session -S session");
        step("tpm2_policycommandcode -S session TPM2_CC_Duplicate");
        step("tpm2_policyauthorize -S session -i duplication -n name -t ticket");
        self.tpm
            .tool("tpm2_duplicate -C target.ctx -c object.ctx -G null -p session:session -r private -s seed");
        step("tpm2_flushcontext session");
    }

    pub fn files(&self, names: &[&str]) -> Sealed {
        let bytes: Vec<_> = names.iter().map(|name| fs::read(self.tpm.file(name)).unwrap()).collect();
        Sealed::parse(&bytes.concat()).unwrap()
    }
}

/// `TPM2B_PRIVATE` or `TPM2B_PUBLIC` with this content.
pub fn tpm2b(content: &[u8]) -> Vec<u8> {
    let size = u16::try_from(content.len()).unwrap();
    [&size.to_be_bytes(), content].concat()
}

/// Writes the digest of the present PCRs to the file `policy`.
pub fn policy_of_pcrs(swtpm: &Swtpm, pcrs: &str) {
    swtpm.tool("tpm2_startauthsession -S trial");
    swtpm.tool(&format!("tpm2_policypcr -S trial -l {pcrs} -L policy"));
    swtpm.tool("tpm2_flushcontext trial");
}

/// Unseals the files `private` and `public` below the persistent key, into the file `unsealed`.
pub fn unseal(swtpm: &Swtpm, pcrs: &str) -> bool {
    swtpm.tool("tpm2_load -C 0x81000001 -u public -r private -c object.ctx");
    swtpm.tool("tpm2_flushcontext -t");
    swtpm.tool("tpm2_startauthsession --policy-session -S session");
    swtpm.tool(&format!("tpm2_policypcr -S session -l {pcrs}"));
    let unsealed = swtpm.tool_succeeds("tpm2_unseal -c object.ctx -p session:session -o unsealed");
    swtpm.tool("tpm2_flushcontext session");
    swtpm.tool("tpm2_flushcontext -t");
    unsealed
}

/// The attestation key of a TPM in the encodings that key brokers expect, as the executable prints it.
pub struct ShownKey {
    pub pem: String,
    pub ak_public: String,
}

pub fn attestation_key(swtpm: &Swtpm) -> ShownKey {
    let device = format!("--tpm2-device={}", swtpm.device());
    let shown = super::executable::run(&["attest", "--show-ak", "--json", &device]).json();
    let text = |name: &str| shown[name].as_str().unwrap().to_owned();
    ShownKey { pem: text("pem"), ak_public: text("ak_public") }
}
