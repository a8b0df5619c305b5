//! The access log: one line on standard output for each request that it was asked to tell.
//!
//! Owns what a line holds and its two forms. A worker hands a line over and goes on: where standard output is read too
//! slowly, lines are dropped and counted. The latest of each rollout are kept (`latest`). Chooses no request, and never
//! holds a query: queries may name learners.

mod latest;

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::calendar::moment_text;
use crate::rollout::name::Arm;
use crate::rollout::time::WallTime;

use super::trace::TraceId;
use latest::Latest;

/// Lines that wait for standard output at most; some 4 MiB.
const WAITING: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// Where lines go.
pub struct AccessLog {
    format: Format,
    out: NonBlocking,
    dropped: ErrorCounter,
    /// Dropped, it waits a moment for the lines that are still to be written.
    writer: Mutex<Option<WorkerGuard>>,
    latest: Latest,
}

/// One request as it is told. What is not known is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    /// When the request's head was read.
    #[serde(rename = "time", serialize_with = "as_text")]
    pub at: WallTime,
    pub client: IpAddr,
    /// `HTTP/1.1`; `None` where the head was never read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    /// Of the target, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    pub status: u16,
    /// `x-serin-error`: why serin answered by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_name")]
    pub arm: Option<Arm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<&'a str>,
    /// That gave the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<&'a str>,
    /// Of the answer's body, as handed on.
    pub bytes: u64,
    /// From the request's head to the end of the answer's body.
    #[serde(rename = "duration_ms", serialize_with = "as_millis")]
    pub duration: Duration,
    /// The answer's body was handed on to its end.
    pub whole: bool,
    /// Of `traceparent`, as the endpoint was told it.
    #[serde(
        rename = "trace_id",
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_digits"
    )]
    pub trace: Option<TraceId>,
}

// === impl AccessLog ===

impl AccessLog {
    /// Starts the thread that writes to standard output.
    pub fn start(format: Format) -> Self {
        let (out, writer) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING)
            .thread_name("access-log")
            .finish(io::stdout());
        Self {
            format,
            dropped: out.error_counter(),
            out,
            writer: Mutex::new(Some(writer)),
            latest: Latest::default(),
        }
    }

    pub fn write(&self, line: &Line<'_>) {
        let mut text = match self.format {
            Format::Text => line.to_string(),
            Format::Json => line.to_json(),
        };
        if let (Some(rollout), Some(arm)) = (line.rollout, line.arm) {
            let json = match self.format {
                Format::Text => line.to_json(),
                Format::Json => text.clone(),
            };
            self.latest.keep(rollout, arm, line.at, json);
        }
        text.push('\n');
        // A copy is another handle on the same waiting line; a full one drops what comes, and counts it.
        if let Err(error) = self.out.clone().write_all(text.as_bytes()) {
            tracing::debug!(%error, "a line of the access log was not written");
        }
    }

    /// The latest lines of a rollout as JSON, with when each request came, in order of time: at most 500 of each arm. What
    /// was dropped on the way to standard output is among them.
    pub fn latest(&self, rollout: &str) -> Vec<(WallTime, String)> {
        self.latest.of(rollout)
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }

    /// Writes what waits, for a second at most; what comes later is lost.
    pub fn stop(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        drop(writer.take());
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

// === impl Line ===

impl Line<'_> {
    fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn as_text<S: Serializer>(at: &WallTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&moment_text(*at))
}

fn as_name<S: Serializer>(arm: &Option<Arm>, to: S) -> Result<S::Ok, S::Error> {
    arm.map(Arm::as_str).serialize(to)
}

fn as_digits<S: Serializer>(trace: &Option<TraceId>, to: S) -> Result<S::Ok, S::Error> {
    trace.map(|trace| trace.to_string()).serialize(to)
}

fn as_millis<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(span.as_secs_f64() * 1e3)
}

/// Time, client, request, status, bytes, milliseconds, pool, endpoint, arm, error: each in its place, `-` where it is not
/// known. Texts of the client's stand in quotes, escaped.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let request = match (self.method, self.path, self.protocol) {
            (Some(method), Some(path), Some(protocol)) => {
                format!("{method} {}{path} {protocol}", self.host.unwrap_or("-"))
            }
            _ => "-".to_owned(),
        };
        write!(
            f,
            "{} {} {request:?} {} {} {:.1} {} {} {} {}{}",
            moment_text(self.at),
            self.client,
            self.status,
            self.bytes,
            self.duration.as_secs_f64() * 1e3,
            or_none(self.pool),
            or_none(self.endpoint),
            or_none(self.arm.map(Arm::as_str)),
            or_none(self.error),
            if self.whole { "" } else { " broken_off" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            at: WallTime::from_unix_millis(1_762_000_000_123),
            client: IpAddr::from([192, 0, 2, 7]),
            protocol: Some("HTTP/1.1"),
            method: Some("GET"),
            host: Some("example.org"),
            path: Some("/a\"b"),
            status: 200,
            error: None,
            rollout: Some("analyzer"),
            arm: Some(Arm::Canary),
            pool: Some("ultra_fast"),
            endpoint: Some("127.0.0.1:9201"),
            bytes: 1234,
            duration: Duration::from_micros(15_250),
            whole: true,
            trace: TraceId::new(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        }
    }

    #[test]
    fn a_line_of_text_has_its_fields_in_order_and_quotes_what_the_client_said() {
        assert_eq!(
            line().to_string(),
            "2025-11-01T12:26:40.123Z 192.0.2.7 \"GET example.org/a\\\"b HTTP/1.1\" 200 1234 15.2 ultra_fast 127.0.0.1:9201 canary -"
        );
        let refused = Line {
            protocol: None,
            method: None,
            host: None,
            path: None,
            status: 400,
            error: Some("bad_request"),
            rollout: None,
            arm: None,
            pool: None,
            endpoint: None,
            bytes: 0,
            duration: Duration::ZERO,
            whole: false,
            trace: None,
            ..line()
        };
        assert_eq!(
            refused.to_string(),
            "2025-11-01T12:26:40.123Z 192.0.2.7 \"-\" 400 0 0.0 - - - bad_request broken_off"
        );
    }

    #[test]
    fn a_line_of_json_leaves_out_what_is_not_known() {
        let read = |line: Line<'_>| -> serde_json::Value {
            serde_json::from_str(&line.to_json()).expect("JSON")
        };
        let told = read(Line {
            error: None,
            endpoint: None,
            ..line()
        });
        assert_eq!(
            told,
            serde_json::json!({
                "time": "2025-11-01T12:26:40.123Z", "client": "192.0.2.7", "protocol": "HTTP/1.1", "method": "GET",
                "host": "example.org", "path": "/a\"b", "status": 200, "rollout": "analyzer", "arm": "canary",
                "pool": "ultra_fast", "bytes": 1234, "duration_ms": 15.25, "whole": true,
                "trace_id": "0af7651916cd43dd8448eb211c80319c"
            })
        );
    }
}
