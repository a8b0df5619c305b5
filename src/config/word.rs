//! Forms that are one of a few words, or a word and something else.
//!
//! Words of later versions are known here too, and refused by name.

use std::net::SocketAddr;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::form::{Accepted, Form, Reading};
use super::table::{choices, no_choice, table};
use super::{Balance, LogFormat, LogLevel, OverEndpoints};
use crate::rollout::plan::{OnFailure, OnSuccess};
use crate::rollout::weight::Weight;

table! {
    /// A weight to fall back to.
    Fallback {
        needs {
            /// Below the stage's own.
            weight: Weight,
        }
    }
}

/// One listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listen(pub(super) SocketAddr);

table! {
    /// A listener as a table.
    ListenTable {
        needs {
            /// Where to listen.
            address: SocketAddr,
        }
        later { tls, client_ca, proxy_protocol = Accepted::Bool(false), }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Rollout,
}

/// A failure of canary that baseline may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    Connect,
    Reset,
    Timeout,
    Status5xx,
}

/// The source of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalKindWord {
    Prometheus,
    Json,
    Scrape,
    Push,
    Outcomes,
}

impl SignalKindWord {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Json => "json",
            Self::Scrape => "scrape",
            Self::Push => "push",
            Self::Outcomes => "outcomes",
        }
    }
}

/// One figure from those of several endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agg(pub(super) OverEndpoints);

/// What an unproven criterion does to its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnprovenWord {
    Extend,
    Pass,
}

impl FailureKind {
    pub(super) const ALL: [Self; 4] = [Self::Connect, Self::Reset, Self::Timeout, Self::Status5xx];
}

choices! { LogLevel {
    "error" => LogLevel::Error, "warn" => LogLevel::Warn, "info" => LogLevel::Info, "debug" => LogLevel::Debug, "trace" => LogLevel::Trace,
} }
choices! { LogFormat { "text" => LogFormat::Text, "json" => LogFormat::Json, } }
choices! { Balance {
    "round_robin" => Balance::RoundRobin, "least_requests" => Balance::LeastRequests, "p2c" => Balance::P2c,
} later { "ring", } }
choices! { Protocol { "http1" => Protocol::Http1, } later { "http2", "h2c", } }
choices! { Mode { "rollout" => Mode::Rollout, } later { "aa", } }
choices! { FailureKind {
    "connect" => FailureKind::Connect, "reset" => FailureKind::Reset, "timeout" => FailureKind::Timeout, "5xx" => FailureKind::Status5xx,
} }
choices! { SignalKindWord {
    "prometheus" => SignalKindWord::Prometheus, "json" => SignalKindWord::Json, "scrape" => SignalKindWord::Scrape,
    "push" => SignalKindWord::Push, "outcomes" => SignalKindWord::Outcomes,
} }
choices! { Agg {
    "max" => Agg(OverEndpoints::Max), "avg" => Agg(OverEndpoints::Avg), "sum" => Agg(OverEndpoints::Sum),
    "ratio" => Agg(OverEndpoints::Ratio),
} }
choices! { UnprovenWord { "extend" => UnprovenWord::Extend, "pass" => UnprovenWord::Pass, } }
choices! { OnSuccess { "advance" => OnSuccess::Advance, "hold" => OnSuccess::Hold, } later { "approve", } }

impl Form for Listen {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        if value.is_table() {
            return ListenTable::read(value, key, reading)?.address.map(Self);
        }
        SocketAddr::read(value, key, reading).map(Self)
    }

    fn schema() -> Value {
        json!({ "anyOf": [SocketAddr::schema(), ListenTable::schema()] })
    }

    fn shown(&self) -> Option<Value> {
        self.0.shown()
    }
}

impl Form for OnFailure {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        if value.is_table() {
            return Fallback::read(value, key, reading)?
                .weight
                .map(Self::Fallback);
        }
        let text = reading.text(value, key, "\"hold\", \"rollback\" or { weight = .. }")?;
        match text.as_str() {
            "hold" => Some(Self::Hold),
            "rollback" => Some(Self::Rollback),
            other => reading.fault(key, no_choice(other, &["hold", "rollback"], &[])),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "enum": ["hold", "rollback"] }, Fallback::schema(), { "$ref": "#/$defs/template" }] })
    }

    fn shown(&self) -> Option<Value> {
        match self {
            Self::Hold => Some(json!("hold")),
            Self::Rollback => Some(json!("rollback")),
            Self::Fallback(weight) => Some(json!({ "weight": weight.shown() })),
        }
    }
}
