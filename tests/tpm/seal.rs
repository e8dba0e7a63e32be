//! Sealed objects, policies and parent keys against tpm2-tools: each side unseals what the other one seals.

use std::fs;

use cvm_unlock::base::pcr::Bank;
use cvm_unlock::format::tpm2::blob::Sealed;
use cvm_unlock::format::tpm2::parent::Parent;
use cvm_unlock::format::tpm2::policy_pcr;
use cvm_unlock::format::tpm2::srk::Srk;
use cvm_unlock::format::tpm2::step::PolicyStep;
use cvm_unlock::format::tpm2::template::PrimaryAlg;

use crate::support::library::{Enrolled, SECRET, current, mask, open};
use crate::support::swtpm::Swtpm;
use crate::support::tools::{policy_of_pcrs, tpm2b, unseal};

#[test]
fn what_we_seal_tpm2_tools_unseal() {
    let swtpm = Swtpm::new();
    let enrolled = Enrolled::new(&swtpm, Bank::Sha256);
    fs::write(swtpm.file("private"), tpm2b(enrolled.sealed.private())).unwrap();
    fs::write(swtpm.file("public"), tpm2b(enrolled.sealed.public())).unwrap();
    assert!(unseal(&swtpm, "sha256:7,15"));
    assert_eq!(fs::read(swtpm.file("unsealed")).unwrap(), SECRET);
    // systemd's attributes: fixedTPM, fixedParent, noDA.
    assert_eq!(enrolled.sealed.facts().attributes, 0x412);
}

#[test]
fn what_tpm2_tools_seal_we_unseal_under_each_parent() {
    let swtpm = Swtpm::new();
    let persistent = Enrolled::new(&swtpm, Bank::Sha256).parent;
    fs::write(swtpm.file("secret"), SECRET).unwrap();
    policy_of_pcrs(&swtpm, "sha256:7,15");
    let legacy = "-a restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth";
    for (parent, key) in [
        (persistent, "0x81000001"),
        (Parent::Legacy(PrimaryAlg::Ecc), "ecc256:aes128cfb"),
        (Parent::Legacy(PrimaryAlg::Rsa), "rsa2048:aes128cfb"),
    ] {
        let key = match key.contains(':') {
            true => {
                swtpm.tool(&format!("tpm2_createprimary -C o -G {key} {legacy} -c key.ctx"));
                "key.ctx"
            }
            false => key,
        };
        swtpm.tool(&format!(
            "tpm2_create -C {key} -u public -r private -L policy -i secret -a fixedtpm|fixedparent|noda"
        ));
        swtpm.tool("tpm2_flushcontext -t");
        let blob =
            [fs::read(swtpm.file("private")).unwrap(), fs::read(swtpm.file("public")).unwrap()].concat();
        let steps = vec![PolicyStep::Pcr(Bank::Sha256, mask(&[7, 15]))];
        Enrolled { sealed: Sealed::parse(&blob).unwrap(), parent, steps }.opens(&swtpm);
    }
}

#[test]
fn the_storage_root_key_is_systemds() {
    let swtpm = Swtpm::new();
    let Parent::Persistent(srk) = Enrolled::new(&swtpm, Bank::Sha256).parent else { panic!("no parent") };
    assert_eq!(srk.handle(), 0x8100_0001);
    swtpm.tool("tpm2_readpublic -c 0x81000001 -t serialised -o public");
    assert_eq!(fs::read(swtpm.file("serialised")).unwrap(), srk.to_bytes());
    assert_eq!(Srk::parse(&srk.to_bytes()).unwrap(), srk);
    // systemd's template: an empty unique value, noDA. The primary is derived, so getting the same key again
    // proves the template.
    swtpm.tool(
        "tpm2_createprimary -C o -G ecc256:aes128cfb -c again.ctx \
         -a restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda",
    );
    swtpm.tool("tpm2_readpublic -c again.ctx -n name");
    assert_eq!(fs::read(swtpm.file("name")).unwrap(), srk.name());
}

#[test]
fn policy_digests_are_those_of_tpm2_tools() {
    let swtpm = Swtpm::new();
    swtpm.tool("tpm2_pcrextend 4:sha256=1111111111111111111111111111111111111111111111111111111111111111");
    for (bank, pcrs) in [
        (Bank::Sha256, vec![7]),
        (Bank::Sha256, vec![4, 7, 11, 12, 13, 15]),
        (Bank::Sha1, vec![0, 23]),
        (Bank::Sha384, (16..24).collect()),
        (Bank::Sha512, vec![15]),
    ] {
        let list: Vec<String> = pcrs.iter().map(u8::to_string).collect();
        policy_of_pcrs(&swtpm, &format!("{bank}:{}", list.join(",")));
        let ours = policy_pcr::digest(&current(&mut open(&swtpm), bank, mask(&pcrs)));
        assert_eq!(fs::read(swtpm.file("policy")).unwrap(), ours, "{bank} {pcrs:?}");
    }
}
