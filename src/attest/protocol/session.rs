//! The session cookie: found in `Set-Cookie`, sent back as `Cookie`.

/// A session at a key broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCookie(String);

impl SessionCookie {
    /// Finds the session among the values of all `Set-Cookie` headers. Attributes are ignored: the session
    /// lasts a minute, with one server.
    #[must_use]
    pub fn find<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        headers.into_iter().find_map(|header| {
            let pair = header.split(';').next()?.trim();
            let value = pair.strip_prefix(NAME)?.strip_prefix('=')?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let fits = (1..=128).contains(&value.len()) && value.bytes().all(plain);
            fits.then(|| Self(value.to_owned()))
        })
    }

    /// The value of the `Cookie` header.
    #[must_use]
    pub fn header(&self) -> String {
        format!("{NAME}={}", self.0)
    }
}

/// Trustee, `kbs/src/attestation/session.rs`.
const NAME: &str = "kbs-session-id";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_recorded_cookie_is_sent_back_as_trustees_client_sends_it() {
        let recording = include_str!("../../../tests/data/kbs/sample-affirming/04-post-auth.response.txt");
        let header = recording.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let cookie = SessionCookie::find(["other=1; Path=/", header]).unwrap();
        let request = include_str!("../../../tests/data/kbs/sample-affirming/05-post-attest.request.txt");
        assert!(
            request.contains(&format!("\ncookie: {}\n", cookie.header()))
                || request.contains(&format!("\ncookie: {}\r\n", cookie.header()))
        );
    }

    #[test]
    fn a_value_that_would_add_a_header_is_no_session() {
        for header in
            ["kbs-session-id=", "kbs-session-id=a\r\nX: y", "kbs-session-id=a b", "kbs-session-idx=a", "x"]
        {
            assert_eq!(SessionCookie::find([header]), None, "{header:?}");
        }
        assert_eq!(SessionCookie::find([&*format!("kbs-session-id={}", "a".repeat(129))]), None);
    }

    proptest! {
        #[test]
        fn any_text_gives_one_line_or_nothing(header in "(kbs-session-id=)?.{0,60}") {
            if let Some(cookie) = SessionCookie::find([&*header]) {
                prop_assert!(cookie.header().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
