//! What a request's head must look like before anything is done for it: pure.
//!
//! Owns the limits on target and headers, and the agreement of Host and target. The bytes below are judged elsewhere.

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::respond::Fault;
use crate::config::Limits;

/// Bytes of a request line beside method and target: two blanks, the version, CR LF.
const LINE_REST: usize = 12;
/// Bytes of a header line beside name and value: colon, blank, CR LF.
const HEADER_REST: usize = 4;

/// Checks the head and answers with the host it is for, as sent but without its port; empty where HTTP/1.0 names none.
pub(super) fn head<'a>(parts: &'a Parts, limits: &Limits) -> Result<&'a str, Fault> {
    size(parts, limits)?;
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Fault::MethodNotAllowed);
    }
    target(parts)?;
    host(parts)
}

fn size(parts: &Parts, limits: &Limits) -> Result<(), Fault> {
    let over = |value: usize, limit: usize| limit != 0 && value > limit;
    let target_len = len_of(&parts.uri);
    if over(target_len, limits.target_bytes) {
        return Err(Fault::TargetTooLong);
    }
    if over(parts.headers.len(), limits.headers) {
        return Err(Fault::HeadersTooLarge);
    }
    if limits.head_bytes != 0 {
        let line = |(name, value): (&http::HeaderName, &HeaderValue)| {
            name.as_str().len() + value.len() + HEADER_REST
        };
        let headers: usize = parts.headers.iter().map(line).sum();
        if parts.method.as_str().len() + target_len + LINE_REST + headers > limits.head_bytes {
            return Err(Fault::HeadersTooLarge);
        }
    }
    Ok(())
}

fn len_of(uri: &Uri) -> usize {
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => scheme.len() + 3 + authority.as_str().len() + path,
        (None, Some(authority)) => authority.as_str().len() + path,
        (_, None) => path,
    }
}

// Origin form, absolute form of http, or `*` for OPTIONS. HTTP/2 names the scheme of what is before us, too.
fn target(parts: &Parts) -> Result<(), Fault> {
    let path = parts.uri.path();
    let is_path = path.starts_with('/') || path == "*" && parts.method == Method::OPTIONS;
    match parts.uri.scheme_str() {
        Some("http") if is_path => {}
        Some("https") if is_path && parts.version == Version::HTTP_2 => {}
        Some("http" | "https") if parts.version == Version::HTTP_2 => {
            return Err(Fault::BadRequest("the target is no path"));
        }
        Some(_) => return Err(Fault::BadRequest("the target's scheme is not http")),
        None if parts.uri.authority().is_some() => {
            return Err(Fault::BadRequest("the target has no path"));
        }
        None if is_path => {}
        None => return Err(Fault::BadRequest("the target is no path")),
    }
    if parts
        .uri
        .path_and_query()
        .is_some_and(|path| !path.as_str().is_ascii())
    {
        return Err(Fault::BadRequest("the target is not ASCII"));
    }
    Ok(())
}

fn host(parts: &Parts) -> Result<&str, Fault> {
    let value = only_host(&parts.headers)?;
    let Some(value) = value else {
        let named = parts.uri.host().unwrap_or_default();
        return if parts.version == Version::HTTP_10 || parts.version == Version::HTTP_09 {
            Ok(named)
        } else {
            Err(Fault::BadRequest("no host"))
        };
    };
    let text = value
        .to_str()
        .map_err(|_| Fault::BadRequest("malformed host"))?;
    if let Some(authority) = parts.uri.authority()
        && !authority.as_str().eq_ignore_ascii_case(text)
    {
        return Err(Fault::BadRequest("the host differs from the target's"));
    }
    without_port(text).ok_or(Fault::BadRequest("malformed host"))
}

fn only_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Fault> {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(Fault::BadRequest("two hosts"));
    }
    Ok(first)
}

// `name`, `name:port`, `1.2.3.4:port`, `[v6]:port`. The common case is decided without a parse.
fn without_port(host: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let (name, port) = match host.rfind(':') {
        Some(at) if !host.ends_with(']') => (&host[..at], Some(&host[at + 1..])),
        Some(_) | None => (host, None),
    };
    // Digits alone: a parse takes a sign as well.
    let is_port = |port: &str| {
        port.is_empty()
            || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    if !port.is_none_or(is_port) {
        return None;
    }
    if !name.is_empty() && name.bytes().all(plain) {
        return Some(name);
    }
    let authority: Authority = name.parse().ok()?;
    let is_whole = authority.host() == name && !name.is_empty() && !name.contains('@');
    is_whole.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes: 1000,
        headers: 5,
        target_bytes: 100,
        body_bytes: 0,
    };

    fn check(request: http::request::Builder, expected: Result<&str, u16>) {
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let found = head(&parts, &LIMITS).map_err(|fault| fault.status().as_u16());
        assert_eq!(found, expected, "{parts:?}");
    }

    fn get(target: &str) -> http::request::Builder {
        http::Request::get(target)
    }

    #[test]
    fn the_host_is_one_and_agrees_with_the_target() {
        check(get("/").header("host", "a.example"), Ok("a.example"));
        check(get("/").header("host", "a.example:8080"), Ok("a.example"));
        check(get("/").header("host", "a.example:"), Ok("a.example"));
        check(get("/").header("host", "10.0.0.1:80"), Ok("10.0.0.1"));
        check(get("/").header("host", "[::1]:80"), Ok("[::1]"));
        check(get("/").header("host", "[::1]"), Ok("[::1]"));
        check(
            get("http://a.example/x").header("host", "A.example"),
            Ok("A.example"),
        );
        check(
            get("http://a.example:81/x").header("host", "a.example:81"),
            Ok("a.example"),
        );
        check(
            get("http://a.example/x").header("host", "b.example"),
            Err(400),
        );
        check(
            get("http://a.example:81/x").header("host", "a.example"),
            Err(400),
        );
        check(get("/"), Err(400));
        check(get("http://a.example/x"), Err(400));
        check(get("/").version(Version::HTTP_10), Ok(""));
        check(
            get("http://a.example/x").version(Version::HTTP_10),
            Ok("a.example"),
        );
        check(get("/").header("host", "a").header("host", "a"), Err(400));
        for host in [
            "", " ", "a b", "a:b", "a:99999", "a:+80", "u@a", "a/b", "[::1", "::1", "a:1:2",
        ] {
            check(get("/").header("host", host), Err(400));
        }
    }

    #[test]
    fn methods_and_targets_that_are_not_proxied_are_refused() {
        let request = |method, target: &str| {
            http::Request::builder()
                .method(method)
                .uri(target)
                .header("host", "a")
        };
        check(request("CONNECT", "a:443"), Err(405));
        check(request("TRACE", "/"), Err(405));
        check(request("OPTIONS", "*"), Ok("a"));
        check(request("GET", "*"), Err(400));
        check(request("GET", "a:443"), Err(400));
        check(request("GET", "ftp://a/"), Err(400));
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let target = |len: usize| format!("/{}", "x".repeat(len - 1));
        check(get(&target(100)).header("host", "a"), Ok("a"));
        check(get(&target(101)).header("host", "a"), Err(414));
        let with = |count: usize| {
            (1..count).fold(get("/").header("host", "a"), |r, n| {
                r.header(format!("h{n}"), "v")
            })
        };
        check(with(5), Ok("a"));
        check(with(6), Err(431));
        // "GET / HTTP/1.1\r\n" is 16 bytes, "host: a\r\n" is 9, "x: ...\r\n" is 5 and its value.
        let sized = |value: usize| get("/").header("host", "a").header("x", "v".repeat(value));
        check(sized(970), Ok("a"));
        check(sized(971), Err(431));
    }
}
