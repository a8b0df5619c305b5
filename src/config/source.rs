//! The small notations of the contract: where a learner's id comes from, hosts of routes, roles.
//!
//! Parses and prints them; what is printed is what was parsed, in lower case where case makes no
//! difference.

use std::fmt;
use std::net::Ipv6Addr;

use http::HeaderName;

use super::{HostPattern, LearnerSource, Role};

impl LearnerSource {
    /// Reads `header:NAME`, `cookie:NAME`, `query:NAME`, `client_ip` or `random`.
    ///
    /// # Errors
    /// None of these, or a name that cannot be one, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("header", name)) => HeaderName::from_bytes(name.as_bytes())
                .map(Self::Header)
                .map_err(|_| format!("{name:?} is not a header name")),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            Some(("cookie", name)) => Err(format!("{name:?} is not a cookie name")),
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            Some(("query", name)) => Err(format!("{name:?} is not a query parameter")),
            None if text == "client_ip" => Ok(Self::ClientIp),
            None if text == "random" => Ok(Self::Random),
            None | Some(_) => Err(format!(
                "{text:?} is not a source: header:NAME, cookie:NAME, query:NAME, client_ip or random"
            )),
        }
    }
}

impl fmt::Display for LearnerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::ClientIp => f.write_str("client_ip"),
            Self::Random => f.write_str("random"),
        }
    }
}

impl Role {
    /// Reads `read`, `operate` or `approve:<role>`.
    ///
    /// # Errors
    /// None of these, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("approve:")) {
            ("read", _) => Ok(Self::Read),
            ("operate", _) => Ok(Self::Operate),
            (_, Some(role)) if is_token(role) => Ok(Self::Approve(role.to_owned())),
            _ => Err(format!(
                "{text:?} is not a role: read, operate or approve:<role>"
            )),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Operate => f.write_str("operate"),
            Self::Approve(role) => write!(f, "approve:{role}"),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any host"),
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Reads `example.org`, `*.example.org`, `192.0.2.1` or `[2001:db8::1]`, without a port.
pub(super) fn parse_host(text: &str) -> Result<HostPattern, String> {
    let fault = || format!("{text:?} is not a host like \"example.org\" or \"*.example.org\"");
    let host = text.to_ascii_lowercase();
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let address: Ipv6Addr = address.parse().map_err(|_| fault())?;
        return Ok(HostPattern::Exact(format!("[{address}]")));
    }
    match host.strip_prefix("*.") {
        Some(rest) if is_host_name(rest) => Ok(HostPattern::Suffix(format!(".{rest}"))),
        None if is_host_name(&host) => Ok(HostPattern::Exact(host)),
        Some(_) | None => Err(fault()),
    }
}

/// Labels of 1 to 63 letters, digits, `-` and `_` (which container networks use), 253 bytes in all.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// RFC 9110, 5.6.2: what names of headers, cookies and parameters are made of.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_print_as_they_are_read() {
        for text in [
            "header:x-learner-id",
            "cookie:learner_id",
            "query:learner id",
            "client_ip",
            "random",
        ] {
            assert_eq!(
                LearnerSource::parse(text).map(|source| source.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!(
            LearnerSource::parse("header:X-Id").map(|s| s.to_string()),
            Ok("header:x-id".to_owned())
        );
        for text in [
            "",
            "header",
            "header:",
            "header:a b",
            "cookie:",
            "cookie:a=b",
            "query:",
            "ip",
            "Random",
            "body:x",
        ] {
            assert!(LearnerSource::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn roles_print_as_they_are_read() {
        for text in ["read", "operate", "approve:engineering"] {
            assert_eq!(
                Role::parse(text).map(|role| role.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["", "admin", "approve", "approve:", "approve:a b"] {
            assert!(Role::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn hosts_are_names_addresses_and_suffixes() {
        let exact = |host: &str| Ok(HostPattern::Exact(host.to_owned()));
        assert_eq!(parse_host("Example.ORG"), exact("example.org"));
        assert_eq!(parse_host("[2001:DB8::0:1]"), exact("[2001:db8::1]"));
        assert_eq!(parse_host("192.0.2.1"), exact("192.0.2.1"));
        assert_eq!(
            parse_host("*.example.org"),
            Ok(HostPattern::Suffix(".example.org".to_owned()))
        );
        for text in [
            "",
            "*",
            "*.",
            "a..b",
            "a.",
            ".a",
            "a:80",
            "*a.org",
            "a.*.org",
            "[::1",
            "ü.org",
            "a b",
            &"a".repeat(64),
        ] {
            assert!(parse_host(text).is_err(), "{text:?} was accepted");
        }
    }
}
