//! Remote attestation against a verifying key broker, with an emulated TPM: who gets the key, who does not,
//! and what a hostile server or network can do.

use cvm_unlock::attest::evidence::tpm::TpmEvidence;
use cvm_unlock::attest::{AttestError, Attester, Key, ResourcePath, Settings, fetch_key};
use cvm_unlock::base::error::Failure;
use serde_json::{Value, json};

use crate::support::commands::names;
use crate::support::encoding::base64;
use crate::support::kbs::{Kbs, Pki, dead_url};
use crate::support::library::open;
use crate::support::swtpm::Swtpm;
use crate::support::tools::attestation_key;

const PATH: &str = "default/disk/root";
const SECRET: &[u8] = b"passphrase of the root volume";

/// A TPM with PCR 11 as after a boot, a key broker that knows both, and certificates for the connection.
struct Fixture {
    pki: Pki,
    tpm: Swtpm,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { pki: Pki::new(), tpm: Swtpm::new() };
        fixture.tpm.extend(11, "a kernel");
        fixture
    }

    /// The key broker's records: the key of this TPM, and its present state.
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

/// Removes the commands of the test's own look at the TPM.
fn evidence(commands: &[String]) -> Vec<&str> {
    commands.iter().map(String::as_str).filter(|name| *name != "GetCapability").collect()
}

fn settings(servers: &[Value], change: impl FnOnce(&mut Value)) -> Settings {
    let mut settings = json!({"servers": servers, "resource": PATH, "connect_timeout_seconds": 30});
    change(&mut settings);
    serde_json::from_value(settings).unwrap()
}

fn chain(error: &AttestError) -> String {
    cvm_unlock::base::error::chain(error)
}

#[test]
fn a_machine_in_the_registered_state_gets_the_key_by_three_calls_on_one_connection() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    for pin in [fixture.pinned(&broker.url()), json!({"url": broker.url(), "spki": fixture.pki.spki("leaf")})]
    {
        let before = broker.log().len();
        let key = fixture.fetch(&[pin]).unwrap_or_else(|error| panic!("{}", chain(&error)));
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
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    fixture.gets_the_key(&broker);
    fixture.tpm.extend(11, "another kernel");
    fixture.is_refused(&[fixture.pinned(&broker.url())], "kbs-denied");
    assert_eq!(broker.count("/kbs/v0/attest"), 2, "once each");
    assert_eq!(broker.log().last().unwrap()["why"], "policy: PCR 11");
}

#[test]
fn after_the_fence_the_key_is_denied() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    fixture.tpm.extend(15, "the volume key's measurement");
    fixture.is_refused(&[fixture.pinned(&broker.url())], "kbs-denied");
    assert_eq!(broker.log().last().unwrap()["why"], "policy: PCR 15");
}

#[test]
fn a_tpm_that_nobody_registered_is_denied() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    let stranger = Fixture { pki: Pki::new(), tpm: Swtpm::new() };
    stranger.tpm.extend(11, "a kernel");
    stranger.is_refused(&[fixture.pinned(&broker.url())], "kbs-denied");
    assert_eq!(broker.log().last().unwrap()["why"], "policy: attestation key is not registered");
    fixture.gets_the_key(&broker);
}

#[test]
fn a_denial_is_final_even_if_another_server_would_release_the_key() {
    let fixture = Fixture::new();
    let denying = fixture.broker(|config| config["registered_aks"] = json!([]));
    let releasing = fixture.broker(|_| ());
    fixture.is_refused(&[fixture.pinned(&denying.url()), fixture.pinned(&releasing.url())], "kbs-denied");
    assert_eq!(releasing.log().len(), 0);
}

#[test]
fn who_is_not_the_pinned_server_learns_nothing() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    let url = broker.url();
    // Another authority, another key, another name, and a pinned key although the right authority signed
    // another leaf.
    for server in [
        json!({"url": url, "ca": fixture.pki.pem("other")}),
        json!({"url": url, "spki": fixture.pki.spki("other")}),
        json!({"url": url, "spki": fixture.pki.spki("ca")}),
        json!({"url": url.replace("127.0.0.1", "localhost"), "ca": fixture.pki.pem("ca")}),
    ] {
        fixture.is_refused(&[server], "kbs-certificate");
    }
    assert_eq!(broker.log().len(), 0, "nobody was told anything");
    // A pinned key needs neither name nor authority.
    let by_key = json!({"url": url.replace("127.0.0.1", "localhost"), "spki": fixture.pki.spki("leaf")});
    assert!(fixture.fetch(&[by_key]).is_ok());
}

#[test]
fn a_clock_that_is_set_back_does_not_revive_an_expired_certificate() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|_| ());
    let by_key = json!({"url": broker.url(), "spki": fixture.pki.spki("leaf")});
    // The image's time is in 2100, when the certificate has expired.
    for server in [fixture.pinned(&broker.url()), by_key] {
        fixture.is_refused_with(std::slice::from_ref(&server), "kbs-certificate", |settings| {
            settings["not_before"] = json!(4_102_444_800_u64);
        });
        assert!(fixture.fetch(&[server]).is_ok());
    }
}

#[test]
fn tls_1_2_is_not_spoken() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|config| config["tls12"] = json!(true));
    fixture.is_refused(&[fixture.pinned(&broker.url())], "kbs-tls");
}

#[test]
fn what_a_hostile_server_answers_is_refused_by_its_name_and_asked_once() {
    let fixture = Fixture::new();
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
        let broker = fixture.broker(|config| config["faults"] = json!({step: fault}));
        fixture.is_refused(&[fixture.pinned(&broker.url())], slug);
        assert_eq!(broker.count("/kbs/v0/auth"), 1, "{step}: {fault}");
        assert_eq!(broker.count("/kbs/v0/elsewhere"), 0, "{step}: a redirect was followed");
    }
    let broker = fixture.broker(|_| ());
    fixture.gets_the_key(&broker);
}

#[test]
fn a_server_that_is_slow_or_silent_ends_at_the_deadline() {
    let fixture = Fixture::new();
    for (place, fault) in [
        ("faults", json!({"auth": "hang"})),
        ("faults", json!({"auth": "drip"})),
        ("tls_fault", json!("silent")),
        ("tls_fault", json!("drip")),
    ] {
        let broker = fixture.broker(|config| config[place] = fault);
        let servers = [fixture.pinned(&broker.url())];
        fixture.is_refused_with(&servers, "kbs-timeout", |settings| settings["deadline_seconds"] = json!(3));
    }
}

#[test]
fn a_server_in_trouble_is_asked_again_until_the_deadline() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|config| config["faults"] = json!({"auth": "trouble"}));
    let servers = [fixture.pinned(&broker.url())];
    fixture.is_refused_with(&servers, "kbs-trouble", |settings| settings["deadline_seconds"] = json!(6));
    assert!(broker.count("/kbs/v0/auth") > 1);
}

#[test]
fn a_server_that_is_starting_up_is_asked_again_and_then_gives_the_key() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|config| config["starting"] = json!(2));
    fixture.gets_the_key(&broker);
    assert_eq!((broker.count("/kbs/v0/auth"), broker.count("/kbs/v0/attest")), (3, 1));
    let never = fixture.broker(|config| config["starting"] = json!(1000));
    fixture.is_refused_with(&[fixture.pinned(&never.url())], "kbs-no-challenge", |settings| {
        settings["deadline_seconds"] = json!(4);
    });
    assert!(never.count("/kbs/v0/auth") > 1);
}

#[test]
fn the_attestation_key_is_derived_once_for_all_servers_and_before_any_is_asked() {
    let fixture = Fixture::new();
    let good = fixture.broker(|_| ());
    let stranger = fixture.broker(|config| config["tees"] = json!(["snp"]));
    let starting = fixture.broker(|config| config["starting"] = json!(1));
    let servers: Vec<_> =
        [stranger.url(), starting.url(), good.url()].iter().map(|url| fixture.pinned(url)).collect();
    let sent = |servers: &[Value], deadline: u64| {
        let before = fixture.tpm.commands().len();
        let _outcome = fixture.fetch_with(servers, |settings| settings["deadline_seconds"] = json!(deadline));
        let commands = fixture.tpm.commands();
        names(&commands[before..]).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let whole = ["CreatePrimary", "Quote", "PCR_Read", "PCR_Read", "PCR_Read", "FlushContext"];
    assert_eq!(evidence(&sent(&servers, 60)), whole);
    // Prepared before any key broker was asked, although none answers; nothing stays loaded.
    assert_eq!(evidence(&sent(&[fixture.pinned(&dead_url())], 4)), ["CreatePrimary", "FlushContext"]);
}

#[test]
fn servers_are_asked_in_turn() {
    let fixture = Fixture::new();
    let silent = fixture.broker(|config| config["faults"] = json!({"auth": "hang"}));
    let lying = fixture.broker(|config| config["faults"] = json!({"auth": "redirect"}));
    let good = fixture.broker(|_| ());
    for first in [dead_url(), lying.url(), silent.url()] {
        let servers = [fixture.pinned(&first), fixture.pinned(&good.url())];
        let key = fixture.fetch_with(&servers, |settings| settings["deadline_seconds"] = json!(30));
        assert_eq!(key.unwrap_or_else(|error| panic!("{}", chain(&error))).provenance.server, good.url());
    }
    fixture.is_refused_with(&[fixture.pinned(&dead_url())], "kbs-unreachable", |settings| {
        settings["deadline_seconds"] = json!(2);
    });
}

#[test]
fn older_servers_are_spoken_to_in_their_version_and_the_oldest_not_at_all() {
    let fixture = Fixture::new();
    let old = fixture.broker(|config| config["version"] = json!("0.2.0"));
    let key =
        fixture.fetch(&[fixture.pinned(&old.url())]).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!((key.secret.expose(), key.provenance.protocol), (SECRET, "0.2.0"));
    assert_eq!(old.count("/kbs/v0/auth"), 2);
    let oldest = fixture.broker(|config| config["version"] = json!("0.1.1"));
    fixture.is_refused(&[fixture.pinned(&oldest.url())], "kbs-too-old");
    let unknown = fixture.broker(|config| config["version"] = json!("0.9.0"));
    fixture.is_refused(&[fixture.pinned(&unknown.url())], "kbs-version");
}

#[test]
fn a_missing_resource_is_not_a_denial() {
    let fixture = Fixture::new();
    let broker = fixture.broker(|config| config["resources"] = json!({}));
    fixture.is_refused(&[fixture.pinned(&broker.url())], "kbs-resource-missing");
    let empty = fixture.broker(|config| config["resources"] = json!({PATH: ""}));
    fixture.is_refused(&[fixture.pinned(&empty.url())], "kbs-resource-empty");
}
