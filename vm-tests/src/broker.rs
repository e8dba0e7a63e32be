//! The key broker beside a machine: the verifying double of the black-box tests, which is written from Trustee's protocol and
//! proves itself on recorded traffic before it judges anything here.
//!
//! In: a network, what the broker knows and how it misbehaves. Out: a running server, and sentences about its log, which has
//! one line for each exchange.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value, json};

use crate::enrolled::Enrolled;
use crate::lab::Lab;
use crate::pki::Certificate;
use crate::progress::say;
use crate::tpm::{Swtpm, copy_state};
use crate::tree::output_of;
use crate::wire::Wire;

/// Where the server listens that images name first, as `https://10.0.2.2:8443`.
pub const FIRST: u16 = 8443;
/// Where the server listens that images name second, as `https://kbs.test:9443`.
pub const SECOND: u16 = 9443;

/// What a broker knows and how it behaves: the configuration of `double.py`.
#[derive(Debug, Clone)]
pub struct Service {
    port: u16,
    certificate: Certificate,
    config: Map<String, Value>,
    resources: Map<String, Value>,
    pcrs: Map<String, Value>,
}

impl Service {
    /// One that takes evidence of a TPM, and has no key for anybody.
    pub fn at(port: u16) -> Self {
        let (config, resources, pcrs) = (Map::new(), Map::new(), Map::new());
        Self { port, certificate: Certificate::Right, config, resources, pcrs }
    }

    /// Has this key document for the volume that it opens.
    ///
    /// # Errors
    /// When there is none, or cryptsetup fails.
    pub fn serving(self, lab: &Lab, enrolled: &Enrolled) -> Result<Self> {
        let path = path_of(lab, enrolled)?;
        self.serving_at(&path, &enrolled.key_document())
    }

    /// Has this key document at this path.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn serving_at(mut self, path: &str, document: &Path) -> Result<Self> {
        let bytes = fs::read(document).with_context(|| format!("Reading {}", document.display()))?;
        self.resources.insert(path.to_owned(), json!(base64(&bytes)));
        Ok(self)
    }

    /// Insists on this value of a PCR.
    #[must_use]
    pub fn pcr(mut self, index: u32, value: &str) -> Self {
        self.pcrs.insert(index.to_string(), json!([value]));
        self
    }

    /// Knows the attestation key of this TPM, and no other.
    ///
    /// # Errors
    /// When the TPM does not show it.
    pub fn knowing(self, lab: &Lab, tpm: &Path) -> Result<Self> {
        let key = attestation_key(lab, tpm)?;
        Ok(self.with("registered_aks", json!([key])))
    }

    /// The same at another port.
    #[must_use]
    pub fn on(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Any other member of the configuration.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.config.insert(name.to_owned(), value);
        self
    }

    /// Shows this certificate.
    #[must_use]
    pub fn certified(self, certificate: Certificate) -> Self {
        Self { certificate, ..self }
    }
}

/// A running broker; it ends with this value.
#[derive(Debug)]
pub struct Broker {
    process: Child,
    log: PathBuf,
}

impl Broker {
    /// Starts one on the loopback of this network. Its traces are kept under `name`.
    ///
    /// # Errors
    /// When it does not start, or (once in a process) does not pass its own test on recorded traffic.
    pub fn start(lab: &Lab, wire: &Wire, name: &str, service: &Service) -> Result<Self> {
        self_test(lab)?;
        let dir = lab.cache.run_dir(&format!("broker-{name}"))?;
        copy_program(&dir)?;
        let log = dir.join("log");
        File::create(&log)?;
        let [certificate, key] = lab.product.pki.files(service.certificate);
        let mut config = json!({
            "address": "::", "port": service.port, "log": log, "certificate": certificate, "key": key,
            "pcrs": service.pcrs, "resources": service.resources,
        });
        if let Some(config) = config.as_object_mut() {
            config.extend(service.config.clone());
        }
        let file = dir.join("config.json");
        fs::write(&file, config.to_string())?;
        let mut process = lab
            .tools
            .command_on(wire, PYTHON)
            .args([dir.join(PROGRAM).as_os_str(), "serve".as_ref(), file.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("errors"))?)
            .spawn()
            .context("Starting the broker")?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("The broker has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let this = Self { process, log };
        let port: Value = serde_json::from_str(&line).with_context(|| {
            format!(
                "The broker did not start: {}",
                fs::read_to_string(dir.join("errors")).unwrap_or_default()
            )
        })?;
        ensure!(port == json!({"port": service.port}), "The broker listens elsewhere: {line}");
        Ok(this)
    }

    /// All exchanges so far.
    ///
    /// # Errors
    /// When the log is unreadable.
    pub fn exchanges(&self) -> Result<Vec<Exchange>> {
        Exchange::read(&fs::read_to_string(&self.log)?)
    }

    /// It gave the key at `path` to the guest once, by three exchanges on one connection, and was asked for nothing else.
    ///
    /// # Errors
    /// When it was otherwise.
    pub fn released_once(&self, path: &str) -> Result<()> {
        released_once(&self.exchanges()?, path)
    }

    /// It refused the key once, for this reason in its own words, and gave nothing to anybody.
    ///
    /// # Errors
    /// When it was otherwise.
    pub fn denied_because(&self, why: &str) -> Result<()> {
        denied_because(&self.exchanges()?, why)
    }

    /// Nobody asked it for anything.
    ///
    /// # Errors
    /// When somebody did.
    pub fn was_not_asked(&self) -> Result<()> {
        let exchanges = self.exchanges()?;
        ensure!(exchanges.is_empty(), "The broker was asked: {exchanges:?}");
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Which connection it was on.
    pub connection: u64,
    /// The path that was asked for.
    pub path: String,
    /// The answer's status; 0 if there was a fault instead of an answer.
    pub status: u64,
    /// Why it was not granted.
    pub why: String,
}

impl Exchange {
    fn read(log: &str) -> Result<Vec<Self>> {
        let line = |line: &str| -> Option<Self> {
            let value: Value = serde_json::from_str(line).ok()?;
            Some(Self {
                connection: value.get("connection")?.as_u64()?,
                path: value.get("path")?.as_str()?.to_owned(),
                status: value.get("status")?.as_u64()?,
                why: value.get("why")?.as_str()?.to_owned(),
            })
        };
        log.lines().map(|text| line(text).with_context(|| format!("Not a line of the log: {text}"))).collect()
    }

    fn gave_a_key(&self) -> bool {
        self.path.starts_with(RESOURCE) && self.status == 200
    }
}

fn released_once(exchanges: &[Exchange], path: &str) -> Result<()> {
    let paths: Vec<_> = exchanges.iter().map(|exchange| exchange.path.as_str()).collect();
    let resource = format!("{RESOURCE}{path}");
    ensure!(
        paths == ["/kbs/v0/auth", "/kbs/v0/attest", resource.as_str()],
        "The exchanges were {exchanges:?}"
    );
    ensure!(exchanges.iter().all(|exchange| exchange.status == 200), "Not all were granted: {exchanges:?}");
    let first = exchanges.first().map(|exchange| exchange.connection);
    let one = exchanges.iter().all(|exchange| Some(exchange.connection) == first);
    ensure!(one, "There were several connections: {exchanges:?}");
    Ok(())
}

fn denied_because(exchanges: &[Exchange], why: &str) -> Result<()> {
    ensure!(!exchanges.iter().any(Exchange::gave_a_key), "The broker gave a key: {exchanges:?}");
    let asked: Vec<_> = exchanges.iter().filter(|exchange| exchange.path.starts_with(RESOURCE)).collect();
    let denied = matches!(asked.as_slice(), [one] if one.status == 401 && one.why == why);
    ensure!(denied, "The broker did not deny one key because of `{why}`: {exchanges:?}");
    Ok(())
}

/// Where the broker keeps the key of a volume, by the template of the images' configuration.
///
/// # Errors
/// When cryptsetup fails.
pub fn path_of(lab: &Lab, enrolled: &Enrolled) -> Result<String> {
    Ok(format!("default/disk/{}", enrolled.volume.uuid(&lab.tools)?))
}

/// The attestation key of the TPM with this state, as brokers know it.
fn attestation_key(lab: &Lab, tpm: &Path) -> Result<String> {
    let state = copy_state(tpm, &lab.cache.socket("ak"))?;
    let swtpm = Swtpm::on_the_host(&lab.tools, &state)?;
    let mut command = Command::new(&lab.product.executable);
    command.args(["attest", "--show-ak", "--json"]).arg(format!("--tpm2-device={}", swtpm.address()));
    let shown: Value = serde_json::from_str(&output_of(&mut command, "attest --show-ak")?)?;
    drop(swtpm);
    fs::remove_dir_all(state)?;
    let key = shown.get("ak_public").and_then(Value::as_str);
    Ok(key.context("No attestation key was shown")?.to_owned())
}

/// The double against recorded traffic of a real Trustee; once for all.
fn self_test(lab: &Lab) -> Result<()> {
    static TESTED: OnceLock<Result<(), String>> = OnceLock::new();
    let test = || -> Result<()> {
        let dir = lab.cache.run_dir("broker-self-test")?;
        copy_program(&dir)?;
        copy(&checkout().join("tests/data/kbs"), &dir)?;
        let args = [dir.join(PROGRAM), "self-test".into(), dir.join("kbs")];
        let said = lab.tools.run(PYTHON, args)?;
        say(&format!("the key broker agrees with {} recorded facts", said.lines().count()));
        Ok(())
    };
    let tested = TESTED.get_or_init(|| test().map_err(|error| format!("{error:#}")));
    tested.clone().map_err(|error| anyhow!("The key broker fails its own test: {error}"))
}

fn copy_program(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(checkout().join("tests/kbs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            copy(&path, dir)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    output_of(Command::new("cp").arg("--recursive").args([from, to]), "cp").map(drop)
}

fn checkout() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

fn base64(bytes: &[u8]) -> String {
    let digit = |index: u32| {
        char::from(BASE64.get(usize::try_from(index & 63).unwrap_or(0)).copied().unwrap_or(b'='))
    };
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digits = [18, 12, 6, 0].map(|shift| digit(bits >> shift));
        out.extend(digits.iter().take(chunk.len() + 1));
        out.extend(std::iter::repeat_n('=', 3 - chunk.len()));
    }
    out
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PROGRAM: &str = "double.py";
/// Debian's, which has python3-cryptography.
const PYTHON: &str = "/usr/bin/python3";
const RESOURCE: &str = "/kbs/v0/resource/";

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(connection: u64, path: &str, status: u64, why: &str) -> Exchange {
        Exchange { connection, path: path.to_owned(), status, why: why.to_owned() }
    }

    #[test]
    fn a_key_was_released_once_only_by_three_granted_exchanges_on_one_connection() {
        let good = [
            exchange(3, "/kbs/v0/auth", 200, ""),
            exchange(3, "/kbs/v0/attest", 200, ""),
            exchange(3, "/kbs/v0/resource/default/disk/x", 200, ""),
        ];
        assert!(released_once(&good, "default/disk/x").is_ok());
        assert!(released_once(&good, "default/disk/y").is_err());
        assert!(released_once(&[], "default/disk/x").is_err());
        assert!(released_once(&[good.clone(), good.clone()].concat(), "default/disk/x").is_err());
        for at in 0..good.len() {
            let changed = |change: fn(&mut Exchange)| {
                let mut other = good.clone();
                change(other.get_mut(at).unwrap());
                released_once(&other, "default/disk/x")
            };
            assert!(changed(|exchange| exchange.status = 401).is_err());
            assert!(changed(|exchange| exchange.connection = 4).is_err());
        }
    }

    #[test]
    fn a_denial_counts_with_its_own_reason_and_when_nothing_was_released() {
        let denied = exchange(0, "/kbs/v0/resource/a/b/c", 401, "policy: PCR 11");
        assert!(denied_because(std::slice::from_ref(&denied), "policy: PCR 11").is_ok());
        assert!(denied_because(std::slice::from_ref(&denied), "policy: PCR 4").is_err());
        assert!(denied_because(&[], "policy: PCR 11").is_err());
        assert!(denied_because(&[denied.clone(), denied.clone()], "policy: PCR 11").is_err(), "asked again");
        let released = exchange(1, "/kbs/v0/resource/a/b/c", 200, "");
        assert!(denied_because(&[denied, released], "policy: PCR 11").is_err());
    }

    #[test]
    fn lines_of_the_log_are_read_and_others_are_errors() {
        let line =
            r#"{"connection":0,"method":"GET","path":"/x","status":401,"why":"w","received":0,"sent":9}"#;
        assert_eq!(Exchange::read(line).unwrap(), [exchange(0, "/x", 401, "w")]);
        assert!(Exchange::read("{}").is_err());
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
