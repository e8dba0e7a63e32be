//! A key broker for one test: `tests/kbs/double.py` on a free port, with certificates made by openssl.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::port;
use super::tool::daemon;

/// The system's interpreter, for which Debian packages python3-cryptography.
const PYTHON: &str = "/usr/bin/python3";

/// Certificates: an authority, a server's leaf signed by it, and another authority.
pub struct Pki {
    folder: TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let pki = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["ca", "other"] {
            pki.openssl(&format!(
                "req -x509 {NEW_KEY} -keyout {name}.key -out {name}.pem -subj /CN={name} -days 30"
            ));
        }
        pki.openssl(&format!("req {NEW_KEY} -keyout leaf.key -out leaf.csr -subj /CN=kbs"));
        std::fs::write(pki.path("names"), "subjectAltName=IP:127.0.0.1,IP:::1\n").unwrap();
        pki.openssl(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out leaf.pem",
        );
        pki
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// PEM text of a certificate.
    pub fn pem(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pem"))).unwrap()
    }

    /// The pin of a certificate's key, computed as in the documentation.
    pub fn spki(&self, name: &str) -> String {
        self.openssl(&format!("x509 -in {name}.pem -pubkey -noout -out {name}.pub"));
        self.openssl(&format!("pkey -pubin -in {name}.pub -outform DER -out {name}.der"));
        let digest = self.openssl(&format!("dgst -sha256 -r {name}.der"));
        digest.split_whitespace().next().unwrap().to_owned()
    }

    fn openssl(&self, line: &str) -> String {
        let output =
            Command::new("openssl").args(line.split_whitespace()).current_dir(self.folder.path()).output();
        let output = output.expect("openssl");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A running key broker.
pub struct Kbs {
    folder: TempDir,
    process: Child,
    scheme: &'static str,
    port: u64,
}

impl Kbs {
    /// With the leaf of `pki`; `config` is for `double.py`.
    pub fn new(pki: &Pki, config: &Value) -> Self {
        let mut config = config.clone();
        config["certificate"] = json!(pki.path("leaf.pem"));
        config["key"] = json!(pki.path("leaf.key"));
        Self::serve("https", config)
    }

    /// Over plain HTTP, for builds with the feature `test-double`.
    pub fn plain(config: &Value) -> Self {
        Self::serve("http", config.clone())
    }

    fn serve(scheme: &'static str, mut config: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config["log"] = json!(folder.path().join("log"));
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let mut process = double("serve")
            .arg(folder.path().join("config.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).expect("the broker starts");
        Self { folder, process, scheme, port: started["port"].as_u64().unwrap() }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// All exchanges so far.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How often a path was requested.
    pub fn count(&self, path: &str) -> usize {
        self.log().iter().filter(|line| line["path"] == path).count()
    }
}

impl Drop for Kbs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address where nobody listens.
pub fn dead_url() -> String {
    format!("https://127.0.0.1:{}", port::closed())
}

/// The key broker's program with one of its actions.
pub fn double(action: &str) -> Command {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kbs/double.py");
    let mut command = daemon(PYTHON);
    command.arg(program).arg(action);
    command
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
