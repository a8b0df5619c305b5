//! Spans as the protocol has them, named by OpenTelemetry's conventions for HTTP; what is serin's own begins with `serin.`.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::otlp::{
    AnyValue, Code, Event, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Kind,
    Resource, ResourceSpans, ScopeSpans, Span, Status, Value,
};
use crate::rollout::name::Arm;
use crate::telemetry::spans::{self, FailedAttempt};

/// Methods that a span may be named after: a client's invention would be a name for each.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];
/// The trace is recorded; whether the parent is of another process is known, and it is.
const SAMPLED: u32 = 0x001;
const REMOTE_PARENT: u32 = 0x300;

/// The body of a call that tells of these spans.
pub(super) fn request(service: &str, spans: &[spans::Span]) -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    let resource = Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", version),
        ],
    };
    let scope = InstrumentationScope {
        name: "serin".to_owned(),
        version: version.to_owned(),
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.iter().map(encode).collect(),
            }],
        }],
    };
    request.encode_to_vec().into()
}

fn encode(span: &spans::Span) -> Span {
    let parent = span.parent.map(u64::to_be_bytes);
    let remote = match parent {
        Some(_) => REMOTE_PARENT,
        None => 0,
    };
    Span {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        trace_state: span.state.clone(),
        parent_span_id: parent.map(Vec::from).unwrap_or_default(),
        name: method(span).to_owned(),
        kind: Kind::Server.into(),
        start_time_unix_nano: span.began_ns,
        end_time_unix_nano: later(span.began_ns, span.took),
        attributes: attributes(span),
        events: span
            .failures
            .iter()
            .map(|failed| event(span, failed))
            .collect(),
        status: Some(status(span)),
        flags: SAMPLED | remote,
    }
}

fn method(span: &spans::Span) -> &str {
    match METHODS.contains(&span.method.as_str()) {
        true => &span.method,
        false => "HTTP",
    }
}

fn attributes(span: &spans::Span) -> Vec<KeyValue> {
    let mut all = vec![
        text("http.request.method", method(span)),
        text("url.path", &span.path),
        text("network.protocol.name", "http"),
        text("network.protocol.version", span.version),
        text("client.address", &span.client.to_string()),
        whole("http.response.status_code", u64::from(span.status)),
        whole("http.response.body.size", span.bytes),
        whole("serin.attempts", u64::from(span.attempts)),
    ];
    if method(span) != span.method {
        all.push(text("http.request.method_original", &span.method));
    }
    let known = [
        ("server.address", span.host.as_deref()),
        ("error.type", error(span)),
        (
            "serin.rollout",
            span.rollout.as_ref().map(|name| name.as_str()),
        ),
        ("serin.stage", span.stage.as_ref().map(|name| name.as_str())),
        ("serin.arm", span.arm.map(Arm::as_str)),
        ("serin.pool", span.pool.as_ref().map(|name| name.as_str())),
        ("serin.endpoint", span.endpoint.as_deref()),
    ];
    all.extend(
        known
            .into_iter()
            .filter_map(|(key, value)| Some(text(key, value?))),
    );
    all
}

/// Why it failed; a status of the endpoint's own is said by its number.
fn error(span: &spans::Span) -> Option<&str> {
    if !span.whole && span.error.is_none() {
        return Some("broken_off");
    }
    span.error.or(match span.status {
        500 => Some("500"),
        501 => Some("501"),
        502 => Some("502"),
        503 => Some("503"),
        504 => Some("504"),
        505.. => Some("5xx"),
        _ => None,
    })
}

/// A server's span failed where the server did: a 4xx is its client's.
fn status(span: &spans::Span) -> Status {
    let failed = span.status >= 500 || !span.whole;
    let code = match failed {
        true => Code::Error,
        false => Code::Unset,
    };
    let why = error(span).filter(|_| failed);
    Status {
        message: why.unwrap_or_default().to_owned(),
        code: code.into(),
    }
}

fn event(span: &spans::Span, failed: &FailedAttempt) -> Event {
    Event {
        time_unix_nano: later(span.began_ns, failed.after),
        name: "attempt failed".to_owned(),
        attributes: vec![
            text("serin.pool", failed.pool.as_str()),
            text("error.type", failed.why),
        ],
    }
}

fn later(began_ns: u64, after: Duration) -> u64 {
    let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    began_ns.saturating_add(after)
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::Text(value.to_owned()))
}

fn whole(key: &str, value: u64) -> KeyValue {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    pair(key, Value::Whole(value))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}
