//! The key broker's log, one line for each exchange, and sentences about it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

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
    /// Reads a whole log.
    ///
    /// # Errors
    /// When a line is malformed.
    pub fn read(log: &str) -> Result<Vec<Self>> {
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

/// The key at `path` was given out once, by three exchanges on one connection, and nothing else was asked
/// for.
///
/// # Errors
/// When it was otherwise.
pub fn released_once(exchanges: &[Exchange], path: &str) -> Result<()> {
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

/// One key was refused for this reason, and none was given out.
///
/// # Errors
/// When it was otherwise.
pub fn denied_because(exchanges: &[Exchange], why: &str) -> Result<()> {
    ensure!(!exchanges.iter().any(Exchange::gave_a_key), "The broker gave a key: {exchanges:?}");
    let asked: Vec<_> = exchanges.iter().filter(|exchange| exchange.path.starts_with(RESOURCE)).collect();
    let denied = matches!(asked.as_slice(), [one] if one.status == 401 && one.why == why);
    ensure!(denied, "The broker did not deny one key because of `{why}`: {exchanges:?}");
    Ok(())
}

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
}
