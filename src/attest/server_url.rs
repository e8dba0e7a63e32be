//! Parses the address of a key broker from the measured configuration.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// `https://HOST` or `https://HOST:PORT`; HOST is a name, an IPv4 address or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
    host: String,
    port: u16,
}

impl ServerUrl {
    /// Parses an address; `None` for anything else, including paths, queries and user names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let authority = Self::scheme(text)?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, port)
            }
            None => {
                let colon = authority.find(':').unwrap_or(authority.len());
                let (host, port) = authority.split_at_checked(colon)?;
                (is_name(host) || host.parse::<Ipv4Addr>().is_ok()).then_some((host, port))?
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            None if port.is_empty() => Self::default_port(text),
            _ => return None,
        };
        (port > 0 && host.len() <= 253).then(|| Self { text: text.to_owned(), host: host.to_owned(), port })
    }

    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// As written, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn default_port(text: &str) -> u16 {
        if text.starts_with("https:") { 443 } else { 80 }
    }

    fn scheme(text: &str) -> Option<&str> {
        #[cfg(feature = "test-double")]
        if let Some(rest) = text.strip_prefix("http://") {
            return Some(rest);
        }
        text.strip_prefix("https://")
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A name that a certificate can carry. A name that ends in a number is an address in an old form (`1.2`,
/// `0x7f.1`).
fn is_name(text: &str) -> bool {
    let plain = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let number = |label: &str| match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    };
    text.split('.').all(plain) && !text.rsplit('.').next().is_some_and(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_a_host_and_perhaps_a_port() {
        for good in
            ["https://a", "https://a.b-c:1", "https://1.2.3.4:65535", "https://[::1]", "https://[::1]:443"]
        {
            assert_eq!(ServerUrl::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "https://",
            "ftp://a",
            "HTTPS://a",
            "https://a/",
            "https://a/kbs",
            "https://u@a",
            "https://a:0",
            "https://a:65536",
            "https://a:",
            "https://a:+1",
            "https://a:1:2",
            "https://a b",
            "https://a?x",
            "https://::1",
            "https://[::1",
            "https://[a]",
            "https://[::1]x",
            "https://a..b",
            "https://-a.b",
            "https://a-.b",
            "https://1.2.3",
            "https://1.2.3.256",
            "https://a.0x7f",
            "https://a\n",
        ] {
            assert_eq!(ServerUrl::parse(bad), None, "{bad}");
        }
        let label = |length| format!("https://{}.example", "a".repeat(length));
        assert!(ServerUrl::parse(&label(63)).is_some() && ServerUrl::parse(&label(64)).is_none());
    }

    #[test]
    fn host_and_port_are_what_is_connected_to() {
        let parts = |text| ServerUrl::parse(text).map(|url| (url.host().to_owned(), url.port()));
        assert_eq!(parts("https://kbs.example"), Some(("kbs.example".into(), 443)));
        assert_eq!(parts("https://[::1]:8080"), Some(("::1".into(), 8080)));
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "(https://)?[a-z0-9.:\\[\\]/@-]{0,20}|.{0,20}") {
            if let Some(url) = ServerUrl::parse(&text) {
                prop_assert!(url.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
