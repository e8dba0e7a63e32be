//! Remote attestation against a key broker that verifies, with an emulated TPM: who gets the key, who does not, and what a
//! hostile server or network can do.

use cvm_unlock::attest::evidence::tpm::TpmEvidence;
use cvm_unlock::attest::{AttestError, Attester, Key, ResourcePath, Settings, fetch_key};
use cvm_unlock::error::Failure;
use serde_json::{Value, json};

use crate::support::commands::names;
use crate::support::kbs::{Kbs, Pki, dead_url};
use crate::support::library::open;
use crate::support::swtpm::Swtpm;
use crate::support::tools::attestation_key;

const PATH: &str = "default/disk/root";
const SECRET: &[u8] = b"passphrase of the root volume";

/// A TPM with PCR 11 as after a boot, a broker that knows both, and the certificates between.
struct Bench {
    pki: Pki,
    tpm: Swtpm,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { pki: Pki::new(), tpm: Swtpm::new() };
        bench.tpm.extend(11, "a kernel");
        bench
    }

    /// What the broker knows: the key of this TPM, and its present state.
    fn knowledge(&self) -> Value {
        json!({
            "registered_aks": [attestation_key(&self.tpm).ak_public],
            "pcrs": {"11": [self.tpm.pcr(11)], "15": ["0".repeat(64)]},
            "resources": {PATH: base64(SECRET)}
        })
    }

    fn broker(&self, change: impl FnOnce(&mut Value)) -> Kbs {
        let mut config = self.knowledge();
        change(&mut config);
        Kbs::new(&self.pki, &config)
    }

    fn pinned(&self, url: &str) -> Value {
        json!({"url": url, "ca": self.pki.pem("ca")})
    }

    fn fetch(&self, servers: &[Value]) -> Result<Key, AttestError> {
        self.fetch_with(servers, |_| ())
    }

    fn fetch_with(&self, servers: &[Value], change: impl FnOnce(&mut Value)) -> Result<Key, AttestError> {
        let settings = settings(servers, change);
        let mut tpm = open(&self.tpm);
        let mut attester = Attester::new(TpmEvidence::new(&mut tpm));
        let outcome =
            fetch_key(&settings, &mut attester, &ResourcePath::parse(PATH).unwrap(), settings.until());
        drop(attester);
        drop(tpm);
        self.tpm.holds_nothing();
        outcome
    }

    #[track_caller]
    fn gets_the_key(&self, broker: &Kbs) {
        let key =
            self.fetch(&[self.pinned(&broker.url())]).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(key.secret.expose(), SECRET);
    }

    #[track_caller]
    fn is_refused(&self, servers: &[Value], slug: &str) {
        self.is_refused_with(servers, slug, |_| ());
    }

    #[track_caller]
    fn is_refused_with(&self, servers: &[Value], slug: &str, change: impl FnOnce(&mut Value)) {
        match self.fetch_with(servers, change) {
            Ok(_) => panic!("got a key instead of {slug}"),
            Err(error) => assert_eq!(error.slug(), slug, "{}", chain(&error)),
        }
    }
}

/// Without what the test's own look at the TPM sends.
fn evidence(commands: &[String]) -> Vec<&str> {
    commands.iter().map(String::as_str).filter(|name| *name != "GetCapability").collect()
}

fn settings(servers: &[Value], change: impl FnOnce(&mut Value)) -> Settings {
    let mut settings = json!({"servers": servers, "resource": PATH, "connect_timeout_seconds": 30});
    change(&mut settings);
    serde_json::from_value(settings).unwrap()
}

fn chain(error: &AttestError) -> String {
    cvm_unlock::error::chain(error)
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::Encoding;
    base64ct::Base64::encode_string(bytes)
}

#[test]
fn a_machine_in_the_registered_state_gets_the_key_by_three_calls_on_one_connection() {
    let bench = Bench::new();
    let broker = bench.broker(|_| ());
    for pin in [bench.pinned(&broker.url()), json!({"url": broker.url(), "spki": bench.pki.spki("leaf")})] {
        let before = broker.log().len();
        let key = bench.fetch(&[pin]).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(key.secret.expose(), SECRET);
        assert_eq!(key.provenance.server, broker.url());
        assert_eq!((key.provenance.protocol, key.provenance.tee), ("0.4.0", "tpm"));
        let log = broker.log().split_off(before);
        let paths: Vec<_> = log.iter().map(|line| line["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["/kbs/v0/auth", "/kbs/v0/attest", "/kbs/v0/resource/default/disk/root"]);
        assert!(log.iter().all(|line| line["connection"] == log[0]["connection"]), "{log:?}");
    }
}

#[test]
fn another_state_of_the_machine_is_denied_and_asks_once() {
    let bench = Bench::new();
    let broker = bench.broker(|_| ());
    bench.gets_the_key(&broker);
    bench.tpm.extend(11, "another kernel");
    bench.is_refused(&[bench.pinned(&broker.url())], "kbs-denied");
    assert_eq!(broker.count("/kbs/v0/attest"), 2, "once each");
    assert_eq!(broker.log().last().unwrap()["why"], "policy: PCR 11");
}

#[test]
fn after_the_fence_the_key_is_denied() {
    let bench = Bench::new();
    let broker = bench.broker(|_| ());
    bench.tpm.extend(15, "the volume key's measurement");
    bench.is_refused(&[bench.pinned(&broker.url())], "kbs-denied");
    assert_eq!(broker.log().last().unwrap()["why"], "policy: PCR 15");
}

#[test]
fn a_tpm_that_nobody_registered_is_denied() {
    let bench = Bench::new();
    let broker = bench.broker(|_| ());
    let stranger = Bench { pki: Pki::new(), tpm: Swtpm::new() };
    stranger.tpm.extend(11, "a kernel");
    stranger.is_refused(&[bench.pinned(&broker.url())], "kbs-denied");
    assert_eq!(broker.log().last().unwrap()["why"], "policy: attestation key is not registered");
    bench.gets_the_key(&broker);
}

#[test]
fn a_denial_is_final_even_if_another_server_would_release_the_key() {
    let bench = Bench::new();
    let denying = bench.broker(|config| config["registered_aks"] = json!([]));
    let releasing = bench.broker(|_| ());
    bench.is_refused(&[bench.pinned(&denying.url()), bench.pinned(&releasing.url())], "kbs-denied");
    assert_eq!(releasing.log().len(), 0);
}

#[test]
fn who_is_not_the_pinned_server_learns_nothing() {
    let bench = Bench::new();
    let broker = bench.broker(|_| ());
    let url = broker.url();
    // Another authority, another key, another name, and a key that is pinned although the right authority signed another leaf.
    for server in [
        json!({"url": url, "ca": bench.pki.pem("other")}),
        json!({"url": url, "spki": bench.pki.spki("other")}),
        json!({"url": url, "spki": bench.pki.spki("ca")}),
        json!({"url": url.replace("127.0.0.1", "localhost"), "ca": bench.pki.pem("ca")}),
    ] {
        bench.is_refused(&[server], "kbs-certificate");
    }
    assert_eq!(broker.log().len(), 0, "nobody was told anything");
    // A pinned key needs neither name nor authority.
    let by_key = json!({"url": url.replace("127.0.0.1", "localhost"), "spki": bench.pki.spki("leaf")});
    assert!(bench.fetch(&[by_key]).is_ok());
}

#[test]
fn a_clock_that_is_set_back_does_not_revive_an_expired_certificate() {
    let bench = Bench::new();
    let broker = bench.broker(|_| ());
    let by_key = json!({"url": broker.url(), "spki": bench.pki.spki("leaf")});
    // The image is from a time when the certificate had expired: 2100.
    for server in [bench.pinned(&broker.url()), by_key] {
        bench.is_refused_with(std::slice::from_ref(&server), "kbs-certificate", |settings| {
            settings["not_before"] = json!(4_102_444_800_u64);
        });
        assert!(bench.fetch(&[server]).is_ok());
    }
}

#[test]
fn tls_1_2_is_not_spoken() {
    let bench = Bench::new();
    let broker = bench.broker(|config| config["tls12"] = json!(true));
    bench.is_refused(&[bench.pinned(&broker.url())], "kbs-tls");
}

#[test]
fn what_a_hostile_server_answers_is_refused_by_its_name_and_asked_once() {
    let bench = Bench::new();
    for (step, fault, slug) in [
        ("auth", "redirect", "kbs-redirect"),
        ("attest", "redirect", "kbs-redirect"),
        ("resource", "redirect", "kbs-redirect"),
        ("auth", "huge", "kbs-answer-too-large"),
        ("resource", "huge", "kbs-answer-too-large"),
        ("auth", "huge-header", "kbs-answer-too-large"),
        ("auth", "html", "kbs-answer"),
        ("attest", "html", "kbs-answer"),
        ("auth", "not-http", "kbs-answer"),
        ("resource", "garbage", "kbs-answer"),
        ("resource", "other-key", "kbs-envelope"),
    ] {
        let broker = bench.broker(|config| config["faults"] = json!({step: fault}));
        bench.is_refused(&[bench.pinned(&broker.url())], slug);
        assert_eq!(broker.count("/kbs/v0/auth"), 1, "{step}: {fault}");
        assert_eq!(broker.count("/kbs/v0/elsewhere"), 0, "{step}: a redirect was followed");
    }
    let broker = bench.broker(|_| ());
    bench.gets_the_key(&broker);
}

#[test]
fn a_server_that_is_slow_or_silent_ends_at_the_deadline() {
    let bench = Bench::new();
    for (place, fault) in [
        ("faults", json!({"auth": "hang"})),
        ("faults", json!({"auth": "drip"})),
        ("tls_fault", json!("silent")),
        ("tls_fault", json!("drip")),
    ] {
        let broker = bench.broker(|config| config[place] = fault);
        let servers = [bench.pinned(&broker.url())];
        bench.is_refused_with(&servers, "kbs-timeout", |settings| settings["deadline_seconds"] = json!(3));
    }
}

#[test]
fn a_server_in_trouble_is_asked_again_until_the_deadline() {
    let bench = Bench::new();
    let broker = bench.broker(|config| config["faults"] = json!({"auth": "trouble"}));
    let servers = [bench.pinned(&broker.url())];
    bench.is_refused_with(&servers, "kbs-trouble", |settings| settings["deadline_seconds"] = json!(6));
    assert!(broker.count("/kbs/v0/auth") > 1);
}

#[test]
fn a_server_that_is_starting_up_is_asked_again_and_then_gives_the_key() {
    let bench = Bench::new();
    let broker = bench.broker(|config| config["starting"] = json!(2));
    bench.gets_the_key(&broker);
    assert_eq!((broker.count("/kbs/v0/auth"), broker.count("/kbs/v0/attest")), (3, 1));
    let never = bench.broker(|config| config["starting"] = json!(1000));
    bench.is_refused_with(&[bench.pinned(&never.url())], "kbs-no-challenge", |settings| {
        settings["deadline_seconds"] = json!(4);
    });
    assert!(never.count("/kbs/v0/auth") > 1);
}

#[test]
fn the_attestation_key_is_derived_once_for_all_servers_and_before_any_is_asked() {
    let bench = Bench::new();
    let good = bench.broker(|_| ());
    let stranger = bench.broker(|config| config["tees"] = json!(["snp"]));
    let starting = bench.broker(|config| config["starting"] = json!(1));
    let servers: Vec<_> =
        [stranger.url(), starting.url(), good.url()].iter().map(|url| bench.pinned(url)).collect();
    let sent = |servers: &[Value]| {
        let before = bench.tpm.commands().len();
        let _outcome = bench.fetch_with(servers, |settings| settings["deadline_seconds"] = json!(4));
        let commands = bench.tpm.commands();
        names(&commands[before..]).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let whole = ["CreatePrimary", "Quote", "PCR_Read", "PCR_Read", "PCR_Read", "FlushContext"];
    assert_eq!(evidence(&sent(&servers)), whole);
    // Of no use, but it was made before anybody was asked, and nothing stays.
    assert_eq!(evidence(&sent(&[bench.pinned(&dead_url())])), ["CreatePrimary", "FlushContext"]);
}

#[test]
fn servers_are_asked_in_turn() {
    let bench = Bench::new();
    let silent = bench.broker(|config| config["faults"] = json!({"auth": "hang"}));
    let lying = bench.broker(|config| config["faults"] = json!({"auth": "redirect"}));
    let good = bench.broker(|_| ());
    for first in [dead_url(), lying.url(), silent.url()] {
        let servers = [bench.pinned(&first), bench.pinned(&good.url())];
        let key = bench.fetch_with(&servers, |settings| settings["deadline_seconds"] = json!(30));
        assert_eq!(key.unwrap_or_else(|error| panic!("{}", chain(&error))).provenance.server, good.url());
    }
    bench.is_refused_with(&[bench.pinned(&dead_url())], "kbs-unreachable", |settings| {
        settings["deadline_seconds"] = json!(2);
    });
}

#[test]
fn older_servers_are_spoken_to_in_their_version_and_the_oldest_not_at_all() {
    let bench = Bench::new();
    let old = bench.broker(|config| config["version"] = json!("0.2.0"));
    let key = bench.fetch(&[bench.pinned(&old.url())]).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!((key.secret.expose(), key.provenance.protocol), (SECRET, "0.2.0"));
    assert_eq!(old.count("/kbs/v0/auth"), 2);
    let oldest = bench.broker(|config| config["version"] = json!("0.1.1"));
    bench.is_refused(&[bench.pinned(&oldest.url())], "kbs-too-old");
    let unknown = bench.broker(|config| config["version"] = json!("0.9.0"));
    bench.is_refused(&[bench.pinned(&unknown.url())], "kbs-version");
}

#[test]
fn a_missing_resource_is_not_a_denial() {
    let bench = Bench::new();
    let broker = bench.broker(|config| config["resources"] = json!({}));
    bench.is_refused(&[bench.pinned(&broker.url())], "kbs-resource-missing");
    let empty = bench.broker(|config| config["resources"] = json!({PATH: ""}));
    bench.is_refused(&[bench.pinned(&empty.url())], "kbs-resource-empty");
}
