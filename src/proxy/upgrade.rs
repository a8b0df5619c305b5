//! A change of protocol: what a request asks for, and whether an answer grants it. Pure.
//!
//! `Upgrade` of HTTP/1.1 (RFC 9110, 7.8) and the extended CONNECT of HTTP/2 (RFC 8441) become one thing here: upstream is
//! asked in the words of HTTP/1.1. HTTP itself is never changed to: a tunnel of requests that nobody looks at would lead
//! past everything that is checked here, so that `h2c` is left out as if it had not been asked for.

use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, response};

use super::guard::is_token;
use super::respond::Fault;
use super::websocket;

const MALFORMED: Fault = Fault::BadRequest("malformed upgrade");
/// Protocols that are HTTP.
const HTTP: [&str; 3] = ["http", "h2", "h2c"];

/// A change of protocol that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// One or more protocols, the client's favourite first.
    protocols: HeaderValue,
    /// Where the client speaks HTTP/2: what the answer has to say to our key, if there is one.
    extended: Option<Option<HeaderValue>>,
}

impl Asked {
    /// What a request of HTTP/1 asks for; `None` where that is nothing that is passed on. A request with a body asks for
    /// nothing: its body would have to come before the other protocol, and nobody does that.
    pub(super) fn by_upgrade(parts: &Parts, has_body: bool) -> Result<Option<Self>, Fault> {
        let headers = &parts.headers;
        if !headers.contains_key(UPGRADE) {
            return Ok(None);
        }
        let protocols = tokens(headers, &UPGRADE).map(|text| protocol(text).ok_or(MALFORMED));
        let protocols: Vec<&str> = protocols.collect::<Result<_, _>>()?;
        // Without the second header the first was meant for somebody before us.
        let is_ours = parts.version == Version::HTTP_11 && says_upgrade(headers);
        if !is_ours || has_body {
            return Ok(None);
        }
        let passed: Vec<&str> = protocols
            .into_iter()
            .filter(|name| !is_http(name))
            .collect();
        if passed.is_empty() {
            return Ok(None);
        }
        let protocols = HeaderValue::from_str(&passed.join(", ")).map_err(|_| MALFORMED)?;
        Ok(Some(Self {
            protocols,
            extended: None,
        }))
    }

    /// Turns an extended CONNECT into the request that HTTP/1.1 would have made; `None` where it is none. `random` makes
    /// the key of a WebSocket.
    pub(super) fn by_connect(
        parts: &mut Parts,
        random: impl FnOnce() -> u128,
    ) -> Result<Option<Self>, Fault> {
        let Some(name) = parts.extensions.remove::<Protocol>() else {
            return Ok(None);
        };
        if parts.method != Method::CONNECT {
            return Err(Fault::BadRequest("a protocol without CONNECT"));
        }
        let name = protocol(name.as_str().as_bytes()).ok_or(MALFORMED)?;
        if is_http(name) {
            return Err(Fault::NotImplemented);
        }
        let protocols = HeaderValue::from_str(name).map_err(|_| MALFORMED)?;
        parts.method = Method::GET;
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(SEC_WEBSOCKET_KEY);
        let is_websocket = name.eq_ignore_ascii_case("websocket");
        let accept = is_websocket.then(|| {
            let key = websocket::key(random());
            let accept = websocket::accept(&key);
            parts.headers.insert(SEC_WEBSOCKET_KEY, key);
            accept
        });
        Ok(Some(Self {
            protocols,
            extended: Some(accept),
        }))
    }

    /// Asks upstream. After what belongs to the client's connection was removed.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocols.clone());
    }

    /// The protocol that a 101 changes to; `None` where it answers something else than what was asked.
    pub(super) fn granted(&self, head: &response::Parts) -> Option<HeaderValue> {
        let headers = &head.headers;
        if head.version != Version::HTTP_11 || !says_upgrade(headers) {
            return None;
        }
        let asked = self.protocols.to_str().ok()?;
        let is_asked = |name: &str| {
            asked
                .split(", ")
                .any(|asked| asked.eq_ignore_ascii_case(name))
        };
        let chosen: Option<Vec<&str>> = tokens(headers, &UPGRADE)
            .map(|text| protocol(text).filter(|name| is_asked(name)))
            .collect();
        let chosen = chosen.filter(|chosen| !chosen.is_empty())?;
        if let Some(Some(accept)) = &self.extended {
            let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
            if accepts.next() != Some(accept) || accepts.next().is_some() {
                return None;
            }
        }
        HeaderValue::from_str(&chosen.join(", ")).ok()
    }

    /// Whether an answer that is no 101 would read as one to the client: on HTTP/2 every success opens the tunnel.
    pub(super) fn is_mistaken(&self, status: StatusCode) -> bool {
        self.extended.is_some() && status.is_success()
    }

    /// The head for the client, from a 101 that was freed of what belongs to upstream's connection.
    pub(super) fn grant(&self, head: &mut response::Parts, chosen: HeaderValue) {
        head.headers.remove(CONTENT_LENGTH);
        if self.extended.is_some() {
            head.status = StatusCode::OK;
            head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        } else {
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, chosen);
        }
    }
}

fn says_upgrade(headers: &HeaderMap) -> bool {
    tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

// The elements of a list, empty ones left out (RFC 9110, 5.6.1.2).
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

// `name` or `name/version`, both of them tokens.
fn protocol(text: &[u8]) -> Option<&str> {
    let mut parts = text.splitn(2, |&byte| byte == b'/');
    let is_whole = parts.all(|part| !part.is_empty() && part.iter().copied().all(is_token));
    std::str::from_utf8(text).ok().filter(|_| is_whole)
}

fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    HTTP.iter().any(|http| http.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |&(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (
                name,
                HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
            )
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        headers
    }

    fn request(lines: &[(&str, &str)]) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers = headers(lines);
        parts
    }

    fn answer(lines: &[(&str, &str)]) -> response::Parts {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = StatusCode::SWITCHING_PROTOCOLS;
        parts.headers = headers(lines);
        parts
    }

    #[test]
    fn what_is_asked_is_checked_before_it_is_used() {
        let check = |lines: &[(&str, &str)], expected: Result<Option<&str>, ()>| {
            let found = Asked::by_upgrade(&request(lines), false);
            let text = |asked: Asked| asked.protocols.to_str().expect("text").to_owned();
            let found = found.map(|asked| asked.map(text));
            let found = found.as_ref().map(Option::as_deref).map_err(|_| ());
            assert_eq!(found, expected, "{lines:?}");
        };
        let upgrade = ("connection", "Upgrade");
        check(&[], Ok(None));
        check(&[upgrade], Ok(None));
        check(&[upgrade, ("upgrade", "websocket")], Ok(Some("websocket")));
        check(
            &[("connection", "keep-alive, UPGRADE"), ("upgrade", "a/1, b")],
            Ok(Some("a/1, b")),
        );
        check(
            &[upgrade, ("upgrade", "a,, h2c"), ("upgrade", " b ")],
            Ok(Some("a, b")),
        );
        // Not for us, and never to HTTP.
        check(&[("upgrade", "websocket")], Ok(None));
        check(
            &[("connection", "close"), ("upgrade", "websocket")],
            Ok(None),
        );
        for http in ["h2c", "H2C", "HTTP/2.0", "h2", ""] {
            check(&[upgrade, ("upgrade", http)], Ok(None));
        }
        for malformed in [
            "a b", "a/", "/1", "a/1/2", "a;q=1", "\u{e9}", "\"a\"", "a, b c",
        ] {
            check(&[upgrade, ("upgrade", malformed)], Err(()));
        }
    }

    #[test]
    fn who_cannot_change_asks_for_nothing() {
        let mut parts = request(&[("connection", "upgrade"), ("upgrade", "a")]);
        assert_eq!(Asked::by_upgrade(&parts, true), Ok(None), "with a body");
        parts.version = Version::HTTP_10;
        assert_eq!(Asked::by_upgrade(&parts, false), Ok(None), "HTTP/1.0");
    }

    #[test]
    fn an_answer_grants_only_what_was_asked() {
        let lines = [("connection", "upgrade"), ("upgrade", "a/1, websocket")];
        let asked = Asked::by_upgrade(&request(&lines), false)
            .expect("well formed")
            .expect("an upgrade");
        let check = |lines: &[(&str, &str)], expected: Option<&str>| {
            let granted = asked.granted(&answer(lines));
            assert_eq!(
                granted.as_ref().map(|it| it.to_str().expect("text")),
                expected,
                "{lines:?}"
            );
        };
        let upgrade = ("connection", "Upgrade");
        check(&[upgrade, ("upgrade", "WebSocket")], Some("WebSocket"));
        check(&[upgrade, ("upgrade", "a/1")], Some("a/1"));
        for other in ["a", "a/2", "b", "", "websocket, b", "websocket x"] {
            check(&[upgrade, ("upgrade", other)], None);
        }
        check(&[upgrade], None);
        check(&[("upgrade", "websocket")], None);
        check(&[("connection", "close"), ("upgrade", "websocket")], None);
        let mut old = answer(&[upgrade, ("upgrade", "websocket")]);
        old.version = Version::HTTP_10;
        assert_eq!(asked.granted(&old), None);
    }

    #[test]
    fn a_connect_becomes_a_get_with_a_key_whose_answer_is_checked() {
        let mut parts = request(&[
            ("sec-websocket-key", "theirs"),
            ("sec-websocket-version", "13"),
        ]);
        parts.method = Method::CONNECT;
        parts.extensions.insert(Protocol::from_static("websocket"));
        let asked = Asked::by_connect(&mut parts, || 7)
            .expect("well formed")
            .expect("it asks");
        assert_eq!(parts.method, Method::GET);
        let key = parts.headers.get(SEC_WEBSOCKET_KEY).expect("a key");
        assert_eq!(key, "AAAAAAAAAAAAAAAAAAAABw==");
        let accept = websocket::accept(key);
        let accept = accept.to_str().expect("text");
        let (connection, upgrade) = (("connection", "upgrade"), ("upgrade", "websocket"));
        let good = [connection, upgrade, ("sec-websocket-accept", accept)];
        let mut head = answer(&good);
        let chosen = asked.granted(&head).expect("granted");
        asked.grant(&mut head, chosen);
        assert_eq!(head.status, StatusCode::OK);
        assert!(!head.headers.contains_key(SEC_WEBSOCKET_ACCEPT));
        assert_eq!(asked.granted(&answer(&good[..2])), None);
        let wrong = [
            connection,
            upgrade,
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        assert_eq!(asked.granted(&answer(&wrong)), None);
        assert!(asked.is_mistaken(StatusCode::OK) && !asked.is_mistaken(StatusCode::FORBIDDEN));
    }
}
