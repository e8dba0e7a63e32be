//! Tokens and signatures made by systemd's own tools, `systemd-cryptenroll` and `systemd-measure`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::encoding::{base64, from_hex};
use super::executable::{Run, option, run};
use super::image::Image;
use super::swtpm::Swtpm;
use super::tool;

/// A policy key pair made by openssl, and what it signs.
pub struct Signer(TempDir);

impl Signer {
    pub fn new() -> Self {
        let signer = Self(tempfile::tempdir().unwrap());
        let (private, public) = (signer.private(), signer.public());
        for arguments in [
            vec!["genrsa".as_ref(), "-out".as_ref(), private.as_os_str(), "2048".as_ref()],
            vec![
                "rsa".as_ref(),
                "-in".as_ref(),
                private.as_os_str(),
                "-pubout".as_ref(),
                "-out".as_ref(),
                public.as_os_str(),
            ],
        ] {
            tool::succeed(Command::new("openssl").args(arguments));
        }
        signer
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn private(&self) -> PathBuf {
        self.file("private.pem")
    }

    pub fn public(&self) -> PathBuf {
        self.file("public.pem")
    }

    /// A signature file for a UKI with the kernel `kernel` in the phase `phase` (`enter-initrd`), all four
    /// banks.
    pub fn sign(&self, tpm: &Swtpm, kernel: &str, phase: &str) -> PathBuf {
        let linux = self.file("linux");
        std::fs::write(&linux, kernel).unwrap();
        let mut command = Command::new("/lib/systemd/systemd-measure");
        command
            .arg("sign")
            .arg(format!("--linux={}", linux.display()))
            .arg(format!("--phase={phase}"))
            .arg(format!("--private-key={}", self.private().display()))
            .arg(format!("--public-key={}", self.public().display()))
            .arg(format!("--tpm2-device={}", tpm.device()));
        let file = self.file(&format!("{kernel}-{phase}.json"));
        std::fs::write(&file, tool::succeed(&mut command)).unwrap();
        file
    }
}

/// Extends the SHA-256 bank with what systemd's stub and `systemd-pcrphase` measure of that UKI.
pub fn boot(tpm: &Swtpm, kernel: &str, phase: &str) {
    for text in [".linux\0", kernel, phase] {
        tpm.extend(11, text);
    }
}

/// Enrols with `systemd-cryptenroll` and these options.
pub fn cryptenroll(image: &Image, tpm: &Swtpm, options: &[&str]) {
    tool::succeed(
        Command::new("systemd-cryptenroll")
            .env("PASSWORD", Image::PASSPHRASE)
            .arg(format!("--tpm2-device={}", tpm.device()))
            .args(options)
            .arg(image.path()),
    );
}

/// The same, as systemd up to 253 did it, whatever the version here: tpm2-tools seal a secret with that
/// policy below a primary key that is derived at each use and subject to dictionary attack lockout, and the
/// token names no storage root key.
pub fn cryptenroll_252(image: &Image, tpm: &Swtpm, options: &[&str]) {
    cryptenroll(image, tpm, options);
    let mut token = image.metadata()["tokens"]["0"].clone();
    let policy = from_hex(token["tpm2-policy-hash"].as_str().unwrap());
    std::fs::write(tpm.file("policy"), policy).unwrap();
    std::fs::write(tpm.file("secret"), SECRET).unwrap();
    tpm.tool(&format!("tpm2_createprimary -C o -G ecc256:aes128cfb -a {PRIMARY} -c primary.ctx"));
    tpm.tool("tpm2_create -C primary.ctx -u public -r private -L policy -i secret -a fixedtpm|fixedparent");
    tpm.tool("tpm2_flushcontext -t");
    let blob = ["private", "public"].map(|name| std::fs::read(tpm.file(name)).unwrap()).concat();
    image.add_keyslot(&base64(SECRET));
    token["keyslots"] = serde_json::json!(["2"]);
    token["tpm2-blob"] = base64(&blob).into();
    token["tpm2-primary-alg"] = "ecc".into();
    token.as_object_mut().unwrap().remove("tpm2_srk");
    image.replace_token("0", &token);
}

/// A dry run under a configuration that requires none of the proofs that systemd's tokens lack.
pub fn dry_run(image: &Image, tpm: &Swtpm, root: &Path, more: &[&str]) -> Run {
    let config = root.join("lax.json");
    std::fs::write(&config, LAX).unwrap();
    let (path, config) = (image.path(), format!("--config={}", config.display()));
    let root = format!("--root={}", root.display());
    let tpm = option(tpm);
    let fixed = ["unlock", "--dry-run", path.to_str().unwrap(), &tpm, &config, &root, "--json"];
    run(&[&fixed, more].concat())
}

const SECRET: &[u8; 32] = b"sealed as systemd 252 seals it..";
/// systemd v252, `src/shared/tpm2-util.c`.
const PRIMARY: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt";
const LAX: &str =
    r#"{"policy": {"require_authentic": false, "require_binding": false, "require_fence": false}}"#;
