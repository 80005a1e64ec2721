//! Where a webhook goes, checked as far as it can be without asking the network.

use hyper::http::uri::{Scheme, Uri};
use std::fmt;
use std::net::Ipv6Addr;

/// Longest URL, in bytes.
const LONGEST: usize = 2048;

/// Longest name of a host, in bytes (RFC 1035).
const LONGEST_NAME: usize = 253;

/// An absolute `http` or `https` URL. Shown, it lacks the query, which may hold a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url(Uri);

impl Url {
    /// Reads at most 2048 bytes of ASCII: the scheme, a host, and no user, no password and no fragment. The error does not repeat
    /// what may be secret.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > LONGEST {
            return Err(BadUrl::TooLong(text.len()));
        }
        if let Some(other) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(BadUrl::Character(other));
        }
        // What follows it would be dropped without a word.
        if text.contains('#') {
            return Err(BadUrl::Fragment);
        }
        let uri: Uri = text.parse().map_err(|_| BadUrl::Syntax)?;
        if uri.scheme() != Some(&Scheme::HTTP) && uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(BadUrl::Scheme);
        }
        let authority = uri.authority().ok_or(BadUrl::Host)?;
        if authority.as_str().contains('@') {
            return Err(BadUrl::User);
        }
        let host = authority.host();
        if !is_host(host) {
            return Err(BadUrl::Host);
        }
        match authority.as_str()[host.len()..].split_once(':') {
            None if authority.as_str().len() == host.len() => Ok(Self(uri)),
            Some(("", port)) if port.parse().is_ok_and(|port: u16| port > 0) => Ok(Self(uri)),
            Some(("", _)) => Err(BadUrl::Port),
            _ => Err(BadUrl::Host),
        }
    }

    /// The same, with this path if it has none of its own: then its path is `/` or left out. The query stays.
    pub fn or_path(self, path: &str) -> Self {
        if self.0.path() == "/" { self.with_path(path) } else { self }
    }

    /// The same with another path, which begins with `/`. The query stays.
    pub fn with_path(self, path: &str) -> Self {
        let query = self.0.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = format!("{path}{query}").parse().ok();
        Uri::from_parts(parts).map_or(self, Self)
    }

    /// The whole of it, with what [`Display`](fmt::Display) leaves out.
    pub fn as_uri(&self) -> &Uri {
        &self.0
    }
}

/// True for an IPv6 address in brackets, and for what may be a name or an IPv4 address in some spelling.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(is_part)
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.0.scheme_str().unwrap_or_default(), self.0.authority().map_or("", |part| part.as_str()));
        let query = if self.0.query().is_some() { "?.." } else { "" };
        write!(f, "{scheme}://{authority}{}{query}", self.0.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// Why a text is not the URL of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// It is too long.
    #[error("needs at most {LONGEST} bytes, got {0}")]
    TooLong(usize),
    /// It has a character that URLs do not have.
    #[error("needs visible ASCII, got {0:?}; write names in Punycode and the rest percent-encoded")]
    Character(char),
    /// It has a fragment, which is never sent.
    #[error("needs no fragment, got one after \"#\"")]
    Fragment,
    /// It is no absolute URL.
    #[error("needs an absolute URL, such as https://connector.example.org/cim")]
    Syntax,
    /// It is for another protocol.
    #[error("needs http:// or https:// at its beginning")]
    Scheme,
    /// It carries a user and maybe a password.
    #[error("needs no user and no password, got some before \"@\"")]
    User,
    /// It has no host that can be looked up or reached.
    #[error("needs a host: a name of at most {LONGEST_NAME} letters, digits, \"-\", \"_\" and \".\", or an address")]
    Host,
    /// Its port is no port.
    #[error("needs a port from 1 to 65535 after the host's \":\"")]
    Port,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_put_where_there_is_none() {
        for (text, with_path) in [
            ("http://a", "http://a/message/receive"),
            ("http://a:81/", "http://a:81/message/receive"),
            ("https://a?token=x", "https://a/message/receive?token=x"),
            ("https://a/cim", "https://a/cim"),
            ("https://a//", "https://a//"),
        ] {
            assert_eq!(Url::parse(text).unwrap().or_path("/message/receive").as_uri(), with_path);
        }
    }

    #[test]
    fn absolute_http_urls_are_taken() {
        let urls = [
            "http://a",
            "https://connector.example.org/cim",
            "HTTPS://Connector.Example.org:8443/cim",
            "http://under_score.example/",
            "http://xn--bcher-kva.example/",
            "http://127.0.0.1:65535/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::ffff:127.0.0.1]:80/",
            "https://a/%F0%9F%98%80?token=%23",
        ];
        for text in urls {
            Url::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_it_needs() {
        let long = format!("http://a/{}", "x".repeat(2040));
        let long_name = format!("http://{}/", "x".repeat(254));
        let refused = [
            (long.as_str(), BadUrl::TooLong(2049)),
            ("http://bücher.example/", BadUrl::Character('ü')),
            ("http://a/ b", BadUrl::Character(' ')),
            ("http://a/\r\nx: y", BadUrl::Character('\r')),
            ("http://a/#b", BadUrl::Fragment),
            ("", BadUrl::Syntax),
            ("http://", BadUrl::Syntax),
            ("http:///cim", BadUrl::Syntax),
            ("http://a\\@b/", BadUrl::Syntax),
            ("http://[::1", BadUrl::Syntax),
            ("http:a", BadUrl::Scheme),
            ("ftp://a/", BadUrl::Scheme),
            ("unix:/run/x", BadUrl::Syntax),
            ("/cim", BadUrl::Scheme),
            ("connector.example.org", BadUrl::Scheme),
            ("http://user@a/", BadUrl::User),
            ("http://user:pass@a/", BadUrl::User),
            ("http://@a/", BadUrl::User),
            ("http://[::1]x/", BadUrl::Host),
            ("http://[fe80::1%25eth0]/", BadUrl::Host),
            ("http://[1.2.3.4]/", BadUrl::Host),
            ("http://a%00b/", BadUrl::Syntax),
            ("http://a,b/", BadUrl::Host),
            (&long_name, BadUrl::Host),
            ("http://:80/", BadUrl::Host),
            ("http://a:/", BadUrl::Port),
            ("http://a:0/", BadUrl::Port),
            ("http://a:65536/", BadUrl::Port),
            ("http://a:99999/", BadUrl::Port),
            ("http://a:x/", BadUrl::Port),
        ];
        for (text, error) in refused {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn neither_a_url_nor_its_refusal_shows_a_secret() {
        let url = Url::parse("https://a.example:1/cim?token=hidden").unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://a.example:1/cim?.. Url(https://a.example:1/cim?..)");
        for text in ["http://user:hidden@a/", "hidden://a/", "http://a/?hidden#", "http://a:hidden/", "http://hidden%/"] {
            let error = Url::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "(https?://)?[!-~]{0,30}(:[0-9]{0,6})?(/.*)?") {
            let _either = Url::parse(&text).map(|url| url.to_string());
        }
    }
}
