//! A request as bytes: its head, and the pieces of its body. Pure.
//!
//! How the body is framed is decided here once, and what the headers say of it agrees: by its length where the client said
//! one, in chunks otherwise (RFC 9112, 6).

use std::io::Write;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::Spelling;

/// The head of one request, borrowed from whoever may have to send it again.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub method: &'a Method,
    /// In origin form.
    pub target: &'a Uri,
    pub headers: &'a HeaderMap,
    /// What is said in place of headers of the same names, or beside them.
    pub set: &'a [(HeaderName, HeaderValue)],
    /// What is said where there is no host.
    pub host: &'a str,
    pub spelling: &'a Spelling,
}

/// What is known of a body before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    None,
    Known(u64),
    Unknown,
}

/// How a body goes out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// So many bytes are still to go; 0 without a body.
    Sized(u64),
    /// With the names that trailers may have.
    Chunked(Vec<HeaderName>),
}

/// What a piece of a body becomes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Encoded {
    /// Of the piece itself.
    pub(super) data: Bytes,
    /// What follows it.
    pub(super) after: &'static [u8],
}

/// The body is shorter than its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooShort;

/// Trailers that would be taken for what a head alone may say (RFC 9110, 6.5.1).
const NO_TRAILERS: [HeaderName; 12] = [
    http::header::AUTHORIZATION,
    http::header::CACHE_CONTROL,
    http::header::CONTENT_ENCODING,
    CONTENT_LENGTH,
    http::header::CONTENT_RANGE,
    http::header::CONTENT_TYPE,
    HOST,
    http::header::MAX_FORWARDS,
    http::header::SET_COOKIE,
    TRAILER,
    TRANSFER_ENCODING,
    http::header::TE,
];

/// Room for a line of a usual length.
const LINE: usize = 48;

/// Writes a request's head; how its body is to follow.
pub(super) fn head(request: &RequestHead<'_>, extent: Extent, written: &mut Vec<u8>) -> Outgoing {
    let (outgoing, said) = framing(request, extent);
    written.reserve(LINE * (request.headers.len() + request.set.len() + 2));
    written.extend_from_slice(request.method.as_str().as_bytes());
    written.push(b' ');
    target(request.target, written);
    written.extend_from_slice(b" HTTP/1.1\r\n");
    let mut names = request.spelling.names();
    let mut line = |name: &HeaderName, value: &[u8]| {
        let name = name.as_str().as_bytes();
        written.extend_from_slice(names.find(name).unwrap_or(name));
        written.extend_from_slice(b": ");
        written.extend_from_slice(value);
        written.extend_from_slice(b"\r\n");
    };
    let is_chunked = matches!(outgoing, Outgoing::Chunked(_));
    let is_set = |name: &HeaderName| request.set.iter().any(|(set, _)| set == name);
    let mut has_host = false;
    for (name, value) in request.headers {
        if *name == TRANSFER_ENCODING || is_chunked && *name == CONTENT_LENGTH || is_set(name) {
            continue;
        }
        has_host |= *name == HOST;
        line(name, value.as_bytes());
    }
    for (name, value) in request.set {
        has_host |= *name == HOST;
        line(name, value.as_bytes());
    }
    if !has_host {
        // Only HTTP/1.0 may come without one.
        line(&HOST, request.host.as_bytes());
    }
    match said {
        Said::Nothing => {}
        Said::Chunks => line(&TRANSFER_ENCODING, b"chunked"),
        Said::Length(len) => line(&CONTENT_LENGTH, len.to_string().as_bytes()),
    }
    written.extend_from_slice(b"\r\n");
    outgoing
}

// What has to be said of the body beside what the headers say.
enum Said {
    Nothing,
    Chunks,
    Length(u64),
}

fn framing(request: &RequestHead<'_>, extent: Extent) -> (Outgoing, Said) {
    let headers = request.headers;
    let known = match extent {
        Extent::None => return (Outgoing::Sized(0), Said::Nothing),
        Extent::Known(len) => Some(len),
        Extent::Unknown => None,
    };
    let chunked = || (Outgoing::Chunked(trailers(headers)), Said::Chunks);
    if headers.contains_key(TRANSFER_ENCODING) {
        return chunked();
    }
    let declared = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    match (declared.and_then(super::head::number), known) {
        (Some(len), _) => (Outgoing::Sized(len), Said::Nothing),
        (None, Some(len)) => (Outgoing::Sized(len), Said::Length(len)),
        // These have a body only where their head says so.
        (None, None) if matches!(*request.method, Method::GET | Method::HEAD) => {
            (Outgoing::Sized(0), Said::Nothing)
        }
        (None, None) => chunked(),
    }
}

// What is announced, and may be.
fn trailers(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(TRAILER).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    names.filter(|name| !NO_TRAILERS.contains(name)).collect()
}

fn target(target: &Uri, written: &mut Vec<u8>) {
    let text = target.path_and_query().map_or("/", |path| path.as_str());
    if !text.starts_with(['/', '*']) {
        written.push(b'/');
    }
    written.extend_from_slice(text.as_bytes());
}

// === impl Outgoing ===

impl Outgoing {
    /// Whether nothing of it is left.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Sized(0))
    }

    /// A piece of the body, and where it is the last one its end: what goes before it is put behind `written`.
    pub(super) fn piece(
        &mut self,
        mut data: Bytes,
        is_last: bool,
        written: &mut Vec<u8>,
    ) -> Result<Encoded, TooShort> {
        match self {
            Self::Sized(left) => {
                // Never more than the head says.
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                if is_last && *left > 0 {
                    return Err(TooShort);
                }
                Ok(Encoded { data, after: b"" })
            }
            Self::Chunked(_) => {
                if !data.is_empty() {
                    // A vector takes all of it.
                    _ = write!(written, "{:X}\r\n", data.len()).is_ok();
                }
                let after: &[u8] = match (data.is_empty(), is_last) {
                    (true, false) => b"",
                    (true, true) => b"0\r\n\r\n",
                    (false, false) => b"\r\n",
                    (false, true) => b"\r\n0\r\n\r\n",
                };
                if is_last {
                    *self = Self::Sized(0);
                }
                Ok(Encoded { data, after })
            }
        }
    }

    /// The end of a body that has trailers; those that were not announced are left out.
    pub(super) fn trailers(
        &mut self,
        trailers: &HeaderMap,
        written: &mut Vec<u8>,
    ) -> Result<(), TooShort> {
        match self {
            Self::Sized(0) => return Ok(()),
            Self::Sized(_) => return Err(TooShort),
            Self::Chunked(announced) => {
                written.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    if announced.contains(name) {
                        written.extend_from_slice(name.as_str().as_bytes());
                        written.extend_from_slice(b": ");
                        written.extend_from_slice(value.as_bytes());
                        written.extend_from_slice(b"\r\n");
                    }
                }
                written.extend_from_slice(b"\r\n");
            }
        }
        *self = Self::Sized(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn written(
        request: http::request::Builder,
        set: &[(HeaderName, HeaderValue)],
        extent: Extent,
    ) -> (String, Outgoing) {
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let mut spelling = Spelling::default();
        spelling.note(b"X-A");
        let head = RequestHead {
            method: &parts.method,
            target: &parts.uri,
            headers: &parts.headers,
            set,
            host: "10.0.0.1:80",
            spelling: &spelling,
        };
        let mut bytes = Vec::new();
        let outgoing = self::head(&head, extent, &mut bytes);
        (String::from_utf8(bytes).expect("text"), outgoing)
    }

    #[test]
    fn a_head_says_what_the_request_and_the_pool_say() {
        let request = || Request::get("/a?b").header("host", "h").header("x-a", "1");
        let (text, outgoing) = written(request(), &[], Extent::None);
        assert_eq!(text, "GET /a?b HTTP/1.1\r\nhost: h\r\nX-A: 1\r\n\r\n");
        assert!(outgoing.is_over());
        let set = [
            (HOST, HeaderValue::from_static("other")),
            (
                HeaderName::from_static("x-b"),
                HeaderValue::from_static("2"),
            ),
        ];
        let (text, _) = written(request(), &set, Extent::None);
        assert_eq!(
            text,
            "GET /a?b HTTP/1.1\r\nX-A: 1\r\nhost: other\r\nx-b: 2\r\n\r\n"
        );
        let (text, _) = written(Request::options("*"), &[], Extent::None);
        assert_eq!(text, "OPTIONS * HTTP/1.1\r\nhost: 10.0.0.1:80\r\n\r\n");
    }

    #[test]
    fn a_body_is_framed_as_its_client_framed_it() {
        let check = |method: &str, lines: &[(&str, &str)], extent, end: &str, expected| {
            let mut request = Request::builder()
                .method(method)
                .uri("/")
                .header("host", "h");
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let (text, outgoing) = written(request, &[], extent);
            let lines = text.split_once("host: h\r\n").expect("a host").1;
            assert_eq!((lines, outgoing), (end, expected), "{method} {extent:?}");
        };
        let chunked = || Outgoing::Chunked(Vec::new());
        let te = ("transfer-encoding", "chunked");
        check("POST", &[], Extent::None, "\r\n", Outgoing::Sized(0));
        check("POST", &[te], Extent::None, "\r\n", Outgoing::Sized(0));
        check(
            "POST",
            &[("content-length", "0")],
            Extent::None,
            "content-length: 0\r\n\r\n",
            Outgoing::Sized(0),
        );
        check(
            "GET",
            &[("content-length", "3")],
            Extent::Known(3),
            "content-length: 3\r\n\r\n",
            Outgoing::Sized(3),
        );
        check(
            "POST",
            &[],
            Extent::Known(3),
            "content-length: 3\r\n\r\n",
            Outgoing::Sized(3),
        );
        let chunks = "transfer-encoding: chunked\r\n\r\n";
        check("POST", &[], Extent::Unknown, chunks, chunked());
        check("GET", &[te], Extent::Unknown, chunks, chunked());
        check("GET", &[], Extent::Unknown, "\r\n", Outgoing::Sized(0));
        check(
            "PUT",
            &[te, ("content-length", "3")],
            Extent::Known(3),
            chunks,
            chunked(),
        );
        check(
            "PUT",
            &[te, ("trailer", "x-a, host, x-b")],
            Extent::Unknown,
            "trailer: x-a, host, x-b\r\ntransfer-encoding: chunked\r\n\r\n",
            Outgoing::Chunked(vec![
                HeaderName::from_static("x-a"),
                HeaderName::from_static("x-b"),
            ]),
        );
    }

    #[test]
    fn pieces_have_their_frames_and_end_once() {
        let piece = |outgoing: &mut Outgoing, data: &'static str, is_last| {
            let mut written = Vec::new();
            let encoded =
                outgoing.piece(Bytes::from_static(data.as_bytes()), is_last, &mut written)?;
            written.extend_from_slice(&encoded.data);
            written.extend_from_slice(encoded.after);
            Ok(String::from_utf8(written).expect("text"))
        };
        let mut sized = Outgoing::Sized(5);
        assert_eq!(piece(&mut sized, "abc", false), Ok("abc".to_owned()));
        assert_eq!(
            piece(&mut sized, "defg", true),
            Ok("de".to_owned()),
            "no more"
        );
        assert!(sized.is_over());
        assert_eq!(piece(&mut Outgoing::Sized(5), "abc", true), Err(TooShort));
        let mut chunked = Outgoing::Chunked(Vec::new());
        let long = "0123456789abcdef0";
        assert_eq!(
            piece(&mut chunked, long, false),
            Ok(format!("11\r\n{long}\r\n"))
        );
        assert_eq!(piece(&mut chunked, "", false), Ok(String::new()));
        assert_eq!(
            piece(&mut chunked, "a", true),
            Ok("1\r\na\r\n0\r\n\r\n".to_owned())
        );
        assert!(chunked.is_over());
        let mut chunked = Outgoing::Chunked(Vec::new());
        assert_eq!(piece(&mut chunked, "", true), Ok("0\r\n\r\n".to_owned()));
    }

    #[test]
    fn trailers_that_were_announced_go_out() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-a", HeaderValue::from_static("1"));
        trailers.insert("x-b", HeaderValue::from_static("2"));
        let mut chunked = Outgoing::Chunked(vec![HeaderName::from_static("x-a")]);
        let mut written = Vec::new();
        chunked.trailers(&trailers, &mut written).expect("an end");
        assert_eq!(written, b"0\r\nx-a: 1\r\n\r\n");
        assert!(chunked.is_over());
        let short = Outgoing::Sized(1).trailers(&trailers, &mut written);
        assert_eq!(short, Err(TooShort));
    }
}
