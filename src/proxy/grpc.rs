//! What a call of gRPC came to: its status, and when the waiting for it ends. Pure.
//!
//! A call is answered by 200 whatever becomes of it; what it came to is in `grpc-status`, in the trailers or in a head
//! without a body. Messages are never looked into.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body::Frame;

use crate::rollout::slot::Class;

const GRPC_STATUS: &str = "grpc-status";
const MEDIA_TYPE: &[u8] = b"application/grpc";

/// How far the answer to a call has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Whether a message, or the call's end, has begun to arrive.
    has_begun: bool,
    class: Option<Class>,
}

/// Whether a request is a call: `application/grpc`, with its encoding or parameters after it. gRPC-Web is another type,
/// and has its status within its body.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let Some((kind, rest)) = value.as_bytes().split_at_checked(MEDIA_TYPE.len()) else {
        return false;
    };
    kind.eq_ignore_ascii_case(MEDIA_TYPE) && matches!(rest.first(), None | Some(b'+' | b';'))
}

impl Call {
    /// The call that this head answers; `None` where it is no answer of gRPC, and its HTTP status is all there is.
    pub(super) fn answered(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let class = class_in(headers);
        let answered = status == StatusCode::OK;
        answered.then_some(Self {
            has_begun: class.is_some(),
            class,
        })
    }

    /// Takes in a part of the body.
    pub(super) fn take_in<D>(&mut self, frame: &Frame<D>) {
        self.has_begun = true;
        if let Some(trailers) = frame.trailers_ref() {
            self.class = class_in(trailers);
        }
    }

    /// Whether waiting counts as the endpoint's latency no more: what comes after the first message has its own pace.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// How it counts, at its end: without a status it is an error.
    pub(super) fn class(&self) -> Class {
        self.class.unwrap_or(Class::Error)
    }

    /// Whether it failed already, with nothing but a head.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.class, Some(Class::Error | Class::Failed))
    }
}

fn class_in(headers: &HeaderMap) -> Option<Class> {
    let status = headers.get(GRPC_STATUS)?;
    let code = status.to_str().ok().and_then(|text| text.parse().ok());
    Some(code.map_or(Class::Error, class_of))
}

/// How a status counts: the codes of https://grpc.io/docs/guides/status-codes/. What HTTP would answer by 4xx is the
/// learner's own (google.rpc.Code names those statuses), but that 429 is the endpoint's doing.
fn class_of(code: u32) -> Class {
    match code {
        // OK, CANCELLED.
        0 | 1 => Class::Ok,
        // INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE,
        // UNAUTHENTICATED.
        3 | 5 | 6 | 7 | 9 | 10 | 11 | 16 => Class::ClientError,
        // DEADLINE_EXCEEDED, UNAVAILABLE.
        4 | 14 => Class::Failed,
        // UNKNOWN, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, DATA_LOSS, and what nobody knows.
        _ => Class::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let value = value.parse().expect("a value");
        [(http::HeaderName::from_static(name), value)]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_call_is_told_by_its_media_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("Application/gRPC", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/json", false),
        ] {
            assert_eq!(
                is_call(&headers("content-type", value)),
                expected,
                "{value}"
            );
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn each_status_counts_as_the_table_says() {
        let class = |value: &str| {
            let trailers = headers(GRPC_STATUS, value);
            let mut call =
                Call::answered(StatusCode::OK, &HeaderMap::new()).expect("an answer of gRPC");
            assert!(!call.has_begun());
            call.take_in(&Frame::<()>::trailers(trailers.clone()));
            let head = Call::answered(StatusCode::OK, &trailers).expect("an answer of gRPC");
            assert_eq!(head.class(), call.class());
            assert!(head.has_begun());
            call.class()
        };
        for (codes, expected) in [
            (&["0", "1"][..], Class::Ok),
            (
                &["3", "5", "6", "7", "9", "10", "11", "16"],
                Class::ClientError,
            ),
            (
                &["2", "8", "12", "13", "15", "17", "x", "", "-1"],
                Class::Error,
            ),
            (&["4", "14"], Class::Failed),
        ] {
            for code in codes {
                assert_eq!(class(code), expected, "{code:?}");
            }
        }
        let without = Call::answered(StatusCode::OK, &HeaderMap::new());
        assert_eq!(without.map(|call| call.class()), Some(Class::Error));
        assert!(Call::answered(StatusCode::BAD_GATEWAY, &HeaderMap::new()).is_none());
    }
}
