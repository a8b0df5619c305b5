//! The one place where an error becomes a status.
//!
//! Owns every answer that serin makes itself, and its `x-serin-error`. Says less outside than the log does.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

pub(super) const X_SERIN_ERROR: HeaderName = HeaderName::from_static("x-serin-error");

/// Why serin answers itself, by whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    // The client's.
    #[error("malformed request: {0}")]
    BadRequest(&'static str),
    #[error("the client was too slow")]
    ClientTimeout,
    #[error("the method is not proxied")]
    MethodNotAllowed,
    #[error("the body is over the limit")]
    BodyTooLarge,
    #[error("the target is over the limit")]
    TargetTooLong,
    #[error("the headers are over the limit")]
    HeadersTooLarge,
    #[error("the protocol version is not spoken here")]
    VersionNotSupported,
    #[error("the transfer coding is not spoken here")]
    NotImplemented,
    #[error("the host is none of those that the connection was made for")]
    WrongHost,
    #[error("no route")]
    NoRoute,
    #[error("too many requests are under way")]
    Overloaded,
    // The upstream's.
    #[error("no usable endpoint")]
    NoEndpoint,
    #[error("no connection to the endpoint")]
    ConnectFailed,
    #[error("no TLS with the endpoint")]
    TlsFailed,
    #[error("the endpoint broke off")]
    Reset,
    #[error("the endpoint's answer is malformed")]
    BadAnswer,
    #[error("the endpoint was too slow")]
    Timeout,
}

impl Fault {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::WrongHost => StatusCode::MISDIRECTED_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoEndpoint | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed | Self::TlsFailed | Self::Reset | Self::BadAnswer => {
                StatusCode::BAD_GATEWAY
            }
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What `x-serin-error` says.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::ClientTimeout => "request_timeout",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::VersionNotSupported => "version_not_supported",
            Self::NotImplemented => "not_implemented",
            Self::WrongHost => "wrong_host",
            Self::NoRoute => "no_route",
            Self::Overloaded => "overloaded",
            Self::NoEndpoint => "no_healthy_endpoint",
            Self::ConnectFailed => "connect_failed",
            Self::TlsFailed => "tls_failed",
            Self::Reset => "reset",
            Self::BadAnswer => "bad_answer",
            Self::Timeout => "timeout",
        }
    }

    /// Whether the connection ends with this answer: what the client sends next cannot be trusted, or is in the way.
    const fn closes(self) -> bool {
        match self {
            Self::BadRequest(_)
            | Self::ClientTimeout
            // What follows a CONNECT may be meant for the other end of a tunnel.
            | Self::MethodNotAllowed
            | Self::BodyTooLarge
            | Self::TargetTooLong
            | Self::HeadersTooLarge
            | Self::VersionNotSupported
            | Self::NotImplemented => true,
            Self::WrongHost
            | Self::NoRoute
            | Self::NoEndpoint
            | Self::Overloaded
            | Self::ConnectFailed
            | Self::TlsFailed
            | Self::Reset
            | Self::BadAnswer
            | Self::Timeout => false,
        }
    }

    /// The fault behind a status that hyper answers by itself to a head it cannot read.
    pub(super) const fn of_unreadable_head(status: &[u8]) -> Self {
        match status {
            b"414" => Self::TargetTooLong,
            b"431" => Self::HeadersTooLarge,
            _ => Self::BadRequest("unreadable head"),
        }
    }
}

/// The answer to a request that failed: status, reason, and the reason once more as a line of text.
pub(super) fn answer(fault: Fault) -> (Response<()>, Bytes) {
    let mut response = Response::new(());
    *response.status_mut() = fault.status();
    let headers = response.headers_mut();
    headers.insert(X_SERIN_ERROR, HeaderValue::from_static(fault.reason()));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if fault.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if fault.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let text = Bytes::from_static(fault.reason().as_bytes());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    (response, text)
}

/// The same as bytes, for where there is no request that hyper knows of. The connection closes after it.
pub(super) fn bytes(fault: Fault) -> Vec<u8> {
    let (status, reason) = (fault.status(), fault.reason());
    let phrase = status.canonical_reason().unwrap_or("Error");
    format!(
        "HTTP/1.1 {} {phrase}\r\nx-serin-error: {reason}\r\ncontent-type: text/plain\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{reason}",
        status.as_u16(),
        reason.len(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_status_and_reason() {
        let check = |fault: Fault, status: u16, reason: &str, close: bool| {
            let (response, body) = answer(fault);
            let header = |name| {
                response
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
            };
            assert_eq!(response.status().as_u16(), status, "{fault:?}");
            assert_eq!(header(X_SERIN_ERROR), Some(reason), "{fault:?}");
            assert_eq!(header(CONNECTION) == Some("close"), close, "{fault:?}");
            assert_eq!(header(RETRY_AFTER).is_some(), status == 503, "{fault:?}");
            assert_eq!(body, reason);
            let written = String::from_utf8(bytes(fault)).expect("ASCII");
            assert!(
                written.starts_with(&format!("HTTP/1.1 {status} ")),
                "{written}"
            );
            assert!(
                written.ends_with(&format!("content-length: {}\r\n\r\n{reason}", reason.len())),
                "{written}"
            );
        };
        check(Fault::BadRequest("x"), 400, "bad_request", true);
        check(Fault::ClientTimeout, 408, "request_timeout", true);
        check(Fault::MethodNotAllowed, 405, "method_not_allowed", true);
        check(Fault::BodyTooLarge, 413, "body_too_large", true);
        check(Fault::TargetTooLong, 414, "target_too_long", true);
        check(Fault::HeadersTooLarge, 431, "headers_too_large", true);
        check(
            Fault::VersionNotSupported,
            505,
            "version_not_supported",
            true,
        );
        check(Fault::NotImplemented, 501, "not_implemented", true);
        check(Fault::WrongHost, 421, "wrong_host", false);
        check(Fault::NoRoute, 404, "no_route", false);
        check(Fault::NoEndpoint, 503, "no_healthy_endpoint", false);
        check(Fault::Overloaded, 503, "overloaded", false);
        check(Fault::ConnectFailed, 502, "connect_failed", false);
        check(Fault::TlsFailed, 502, "tls_failed", false);
        check(Fault::Reset, 502, "reset", false);
        check(Fault::BadAnswer, 502, "bad_answer", false);
        check(Fault::Timeout, 504, "timeout", false);
    }
}
