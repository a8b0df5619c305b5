//! One request of HTTP/2 from a canonical one of HTTP/1: pure.
//!
//! The twin of `translate`: what HTTP/1 says in a header, HTTP/2 says in pseudo-headers or not at all.

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, Uri, Version};

/// Turns a canonical request into one of HTTP/2. `fallback` is the authority where there is no host.
pub(super) fn to_http2<B>(request: &mut http::Request<B>, scheme: Scheme, fallback: &str) {
    *request.version_mut() = Version::HTTP_2;
    let authority = authority(request.headers_mut(), fallback);
    // Said by frames.
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        request.headers_mut().remove(name);
    }
    let path = std::mem::take(request.uri_mut())
        .into_parts()
        .path_and_query;
    *request.uri_mut() = uri(scheme, authority, path);
}

// RFC 9113, 8.3.1: what was the host is the authority, and is not said twice.
fn authority(headers: &mut HeaderMap, fallback: &str) -> Option<Authority> {
    let host = headers.remove(HOST);
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    host.or_else(|| Authority::try_from(fallback).ok())
}

fn uri(scheme: Scheme, authority: Option<Authority>, path: Option<PathAndQuery>) -> Uri {
    let mut parts = Parts::default();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if authority.is_some() {
        parts.scheme = Some(scheme);
        parts.authority = authority;
    }
    parts.path_and_query = Some(path.clone());
    // With a path it can only fail where the scheme and the authority do not go together, and they do.
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from(path))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn the_host_becomes_the_authority() {
        let check = |target: &str, host: Option<&str>, expected: &str| {
            let mut request = Request::builder().method("OPTIONS").uri(target);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let request = request
                .header("te", "trailers")
                .header("transfer-encoding", "chunked");
            let mut request = request.body(()).expect("a request");
            to_http2(&mut request, Scheme::HTTPS, "10.0.0.1:81");
            let uri = request.uri();
            let authority = uri.authority().map(Authority::as_str);
            let found = format!(
                "{}://{}{}",
                uri.scheme_str().unwrap_or_default(),
                authority.unwrap_or_default(),
                uri.path_and_query().map_or("", PathAndQuery::as_str),
            );
            assert_eq!(found, expected);
            let names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
            assert_eq!(names, ["te"]);
        };
        check("/a?b=c", Some("h:82"), "https://h:82/a?b=c");
        check("/", Some("[::1]:82"), "https://[::1]:82/");
        check("/a", None, "https://10.0.0.1:81/a");
        check("*", Some("h"), "https://h*");
    }
}
