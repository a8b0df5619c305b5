//! One probe of one endpoint, over a fresh connection: what is asked, and what counts as an answer.
//!
//! Knows the three kinds of question. What follows from the answers is `health`'s.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use super::endpoint::Endpoint;
use super::http1::{self, Pipe, RequestHead, Spelling};
use super::line::Pump;
use super::transport::{ConnectError, Transport};
use crate::config::{Health, HealthKind};
use crate::wire::Wire;

const AGENT: &str = "serin-health";
/// https://github.com/grpc/grpc/blob/master/doc/health-checking.md
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;
/// Longest answer of a check of gRPC: a status takes two bytes.
const ANSWER_MAX: usize = 4096;
/// Before each message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Of the one field of both messages: number 1, a text in the request, a number in the answer.
const TEXT_TAG: u8 = 0x0a;
const NUMBER_TAG: u8 = 0x08;

/// What one probe found wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Http1(#[from] http1::Error),
    #[error("{0}")]
    Http2(#[from] hyper::Error),
    #[error("answered {}", .0.as_u16())]
    Status(StatusCode),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("not a request that can be sent: {0}")]
    Request(#[from] http::Error),
    #[error("no answer of gRPC: {0}")]
    NoCall(String),
    #[error("answered grpc-status {0}")]
    GrpcStatus(String),
    #[error("not serving (status {0})")]
    NotServing(u64),
}

/// An answer, and what keeps its connection open.
struct Answered {
    answer: Response<Incoming>,
    _sender: http2::SendRequest<Full<Bytes>>,
}

/// Asks an endpoint whether it is well.
pub(super) async fn probe(
    transport: &Transport,
    endpoint: &Endpoint,
    health: &Health,
) -> Result<(), ProbeError> {
    let wire = transport.open(endpoint, None).await?;
    match health.kind {
        HealthKind::Tcp => Ok(()),
        HealthKind::Http => {
            let status = if transport.is_http2() {
                let request = http2_request(transport, endpoint, &health.path, None)?;
                over_http2(wire, request).await?.answer.status()
            } else {
                over_http1(wire, endpoint, &health.path).await?
            };
            if status.is_success() {
                Ok(())
            } else {
                Err(ProbeError::Status(status))
            }
        }
        HealthKind::Grpc => {
            let body = question(&health.service);
            let request = http2_request(transport, endpoint, CHECK, Some(body))?;
            let answered = over_http2(wire, request).await?;
            judge(answered.answer).await
        }
    }
}

async fn over_http1(wire: Wire, endpoint: &Endpoint, path: &str) -> Result<StatusCode, ProbeError> {
    let request = Request::get(path)
        .header(HOST, endpoint.address())
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(())?;
    let head = RequestHead {
        method: request.method(),
        target: request.uri(),
        headers: request.headers(),
        set: &[],
        host: endpoint.address(),
        spelling: &Spelling::default(),
    };
    let pipe = Rc::new(RefCell::new(Pipe::new(wire)));
    let answered = http1::exchange(&pipe, head, Empty::<Bytes>::new(), || {}).await;
    let answered = answered.map_err(|unanswered| unanswered.error)?;
    Ok(answered.parts.status)
}

async fn over_http2(wire: Wire, request: Request<Full<Bytes>>) -> Result<Answered, ProbeError> {
    let handshake = http2::Builder::new(Pump::default()).handshake(TokioIo::new(wire));
    let (mut sender, driver) = handshake.await?;
    tokio::task::spawn_local(driver);
    let answer = sender.send_request(request).await?;
    Ok(Answered {
        answer,
        _sender: sender,
    })
}

fn http2_request(
    transport: &Transport,
    endpoint: &Endpoint,
    path: &str,
    call: Option<Bytes>,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let uri = Uri::builder()
        .scheme(transport.scheme())
        .authority(endpoint.address())
        .path_and_query(path)
        .build()?;
    let request = Request::builder().uri(uri).header(USER_AGENT, AGENT);
    match call {
        None => request.body(Full::default()),
        Some(message) => request
            .method("POST")
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Full::new(message)),
    }
}

// `HealthCheckRequest { service }` with its prefix.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(TEXT_TAG);
        let mut len = service.len();
        while len >= 0x80 {
            message.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        message.push(len as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(
        &u32::try_from(message.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    framed.extend(message);
    framed.into()
}

async fn judge(answer: Response<Incoming>) -> Result<(), ProbeError> {
    let (head, body) = answer.into_parts();
    if head.status != StatusCode::OK {
        return Err(ProbeError::Status(head.status));
    }
    let body = Limited::new(body, ANSWER_MAX).collect().await;
    let body = body.map_err(|why| ProbeError::NoCall(why.to_string()))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    check_status(&head.headers, &trailers)?;
    match serving_status(&body.to_bytes()) {
        Some(SERVING) => Ok(()),
        Some(status) => Err(ProbeError::NotServing(status)),
        None => Err(ProbeError::NoCall("a message that is none".to_owned())),
    }
}

fn check_status(head: &HeaderMap, trailers: &HeaderMap) -> Result<(), ProbeError> {
    let status = trailers
        .get("grpc-status")
        .or_else(|| head.get("grpc-status"));
    match status.map(|status| status.as_bytes()) {
        Some(b"0") => Ok(()),
        Some(code) => Err(ProbeError::GrpcStatus(code.escape_ascii().to_string())),
        None => Err(ProbeError::NoCall("it has no grpc-status".to_owned())),
    }
}

// The status of a `HealthCheckResponse` with its prefix; a field that is left out is zero.
fn serving_status(mut framed: &[u8]) -> Option<u64> {
    if framed.len() < PREFIX || framed.get_u8() != 0 {
        return None;
    }
    let len = framed.get_u32() as usize;
    let (message, rest) = framed.split_at_checked(len)?;
    if !rest.is_empty() {
        return None;
    }
    match message {
        [] => Some(0),
        [NUMBER_TAG, status] if *status < 0x80 => Some(u64::from(*status)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // From `protoc --encode` of the messages in health.proto.
    #[test]
    fn questions_are_written_and_answers_read_as_protobuf() {
        assert_eq!(&question("")[..], b"\0\0\0\0\0");
        assert_eq!(&question("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        let long = question(&"s".repeat(200));
        assert_eq!(&long[..8], b"\0\0\0\0\xcb\x0a\xc8\x01");
        for (framed, expected) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\x02\x08\x02", Some(2)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x02\x08", None),
            (b"\0\0\0\0\x02\x0a\x01", None),
            (b"\0\0\0", None),
            (b"", None),
        ] {
            assert_eq!(
                serving_status(framed),
                expected,
                "{}",
                framed.escape_ascii()
            );
        }
    }
}
