//! Forms that are one of a few words, or a word and something else.
//!
//! Words of later versions are known here too, and refused by name.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::form::{Form, Reading};
use super::leaf::HostName;
use super::table::{choices, no_choice, table};
use super::{
    AccessLog, Aggregate, Balance, ChannelKind, HealthKind, LogFormat, LogLevel, OnIsolated,
    OverEndpoints, Parents, Protocol,
};
use crate::proxy_protocol::Version;
use crate::rollout::plan::{HookMethod, Mode, OnFailure, When};
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
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listen {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<ListenTls>,
    pub(super) proxy_protocol: bool,
}

table! {
    /// A further certificate, for the names that it holds.
    CertificateTable {
        needs {
            /// The chain in PEM, the server's own certificate first.
            cert: PathBuf,
            /// Its private key in PEM.
            key: PathBuf,
        }
    }
}

table! {
    /// TLS of a listener.
    ListenTls {
        needs {
            /// The chain in PEM, the server's own certificate first.
            cert: PathBuf,
            /// Its private key in PEM.
            key: PathBuf,
        }
        may {
            /// CAs in PEM: a client without a certificate of theirs is refused.
            client_ca: PathBuf,
        }
        has {
            /// Further certificates, each for the names that it holds.
            sni: Vec<CertificateTable> = Vec::new(),
        }
    }
}

table! {
    /// A listener as a table.
    ListenTable {
        needs {
            /// Where to listen.
            address: SocketAddr,
        }
        may {
            /// Only TLS is spoken.
            tls: ListenTls,
        }
        has {
            /// Every connection begins with a PROXY header of version 1 or 2.
            proxy_protocol: bool = false,
        }
    }
}

table! {
    /// TLS to the endpoints of a pool.
    PoolTlsTable {
        may {
            /// CAs in PEM that may have signed the endpoints' certificates; left out, the roots that browsers ship.
            ca: PathBuf,
            /// Our certificate for endpoints that ask for one: the chain in PEM, our own first.
            cert: PathBuf,
            /// Its private key in PEM.
            key: PathBuf,
            /// Whom the certificates have to be for; left out, each for its endpoint's host.
            server_name: HostName,
        }
    }
}

table! {
    /// TLS to the servers of NATS.
    FleetTlsTable {
        may {
            /// CAs in PEM that may have signed the servers' certificates; left out, the roots that browsers ship.
            ca: PathBuf,
            /// Our certificate for servers that ask for one: the chain in PEM, our own first.
            cert: PathBuf,
            /// Its private key in PEM.
            key: PathBuf,
        }
        has {
            /// Whether a server that does not speak TLS is refused; one at tls:// always is.
            required: bool = false,
        }
    }
}

/// What follows a stage that passed; whose approval is asked for has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Advance,
    Approve,
    Hold,
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
choices! { Parents { "all" => Parents::All, "trusted" => Parents::Trusted, } }
choices! { LogFormat { "text" => LogFormat::Text, "json" => LogFormat::Json, } }
choices! { Balance {
    "round_robin" => Balance::RoundRobin, "least_requests" => Balance::LeastRequests, "p2c" => Balance::P2c,
    "ring" => Balance::Ring,
} }
choices! { HealthKind { "http" => HealthKind::Http, "tcp" => HealthKind::Tcp, "grpc" => HealthKind::Grpc, } }
choices! { Protocol { "http1" => Protocol::Http1, "http2" => Protocol::Http2, "h2c" => Protocol::H2c, } }
choices! { Version { "v1" => Version::V1, "v2" => Version::V2, } }
choices! { Mode { "rollout" => Mode::Rollout, "aa" => Mode::Aa, } }
choices! { HookMethod {
    "GET" => HookMethod::Get, "POST" => HookMethod::Post, "PUT" => HookMethod::Put, "PATCH" => HookMethod::Patch, "DELETE" => HookMethod::Delete,
} }
choices! { When { "always" => When::Always, "baseline_unhealthy" => When::BaselineUnhealthy, } }
choices! { Aggregate { "fleet" => Aggregate::Fleet, "region" => Aggregate::Region, } }
choices! { OnIsolated { "keep" => OnIsolated::Keep, "baseline" => OnIsolated::Baseline, } }
choices! { ChannelKind { "slack" => ChannelKind::Slack, "webhook" => ChannelKind::Webhook, } }
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
choices! { Then { "advance" => Then::Advance, "approve" => Then::Approve, "hold" => Then::Hold, } }

impl Form for Listen {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        if value.is_table() {
            let ListenTable {
                address,
                tls,
                proxy_protocol,
            } = ListenTable::read(value, key, reading)?;
            return Some(Self {
                address: address?,
                tls,
                proxy_protocol,
            });
        }
        SocketAddr::read(value, key, reading).map(Self::from)
    }

    fn schema() -> Value {
        json!({ "anyOf": [SocketAddr::schema(), ListenTable::schema()] })
    }

    fn shown(&self) -> Option<Value> {
        self.address.shown()
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            proxy_protocol: false,
        }
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

impl Form for AccessLog {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let word = match value {
            DeValue::String(_) => {
                reading.text(value, key, "\"off\", \"errors\", \"all\" or a share")?
            }
            _ => return Weight::read(value, key, reading).map(Self::Share),
        };
        match word.as_str() {
            "off" => Some(Self::Off),
            "errors" => Some(Self::Errors),
            "all" => Some(Self::All),
            share if share.starts_with(|first: char| first.is_ascii_digit()) => {
                Weight::read(value, key, reading).map(Self::Share)
            }
            other => reading.fault(key, no_choice(other, &["off", "errors", "all"], &[])),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "enum": ["off", "errors", "all"] }, Weight::schema()] })
    }

    fn shown(&self) -> Option<Value> {
        match self {
            Self::Off => Some(json!("off")),
            Self::Errors => Some(json!("errors")),
            Self::All => Some(json!("all")),
            Self::Share(share) => share.shown(),
        }
    }
}
