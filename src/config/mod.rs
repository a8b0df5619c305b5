//! proxy.toml: what a person types, checked whole, as what the program means.
//!
//! `raw` is the file as typed, `check` turns it into `Config` or into every fault at once, `diff` compares two,
//! `load` reads files and the environment, `schema` says what a file may hold. Nothing else in the house reads
//! proxy.toml.

mod amount;
mod check;
mod defaults;
mod diff;
mod dns;
mod ejection;
mod endpoints;
mod env;
mod faults;
mod fleet;
mod form;
mod header;
mod hooks;
mod leaf;
mod listeners;
mod load;
mod mirror;
mod notify;
mod overload;
mod overrides;
mod people;
mod pinned;
mod pools;
mod raw;
mod rollouts;
mod routes;
mod schema;
mod secret;
mod selector;
mod signals;
mod source;
mod staged;
mod table;
mod tokens;
mod transport;
mod word;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::rollout::name::{PoolName, RolloutName};
use crate::rollout::plan::Plan;
use crate::rollout::weight::Weight;
use crate::tls;

pub use amount::parse_share;
pub use diff::{Area, Change, Diff, diff};
pub use dns::{Dns, DnsName};
pub use ejection::{EjectOn, Ejection};
pub use endpoints::Endpoint;
pub use fleet::{Aggregate, Fleet, FleetTls, Login, OnIsolated};
pub use load::{load, parse, parse_with};
pub use mirror::{Compare, JsonPart, JsonPattern, Mirror};
pub use overload::Overload;
pub use pinned::pinned;
pub use schema::schema;
pub use secret::Secret;
pub use selector::{Query, Selector};
pub use signals::{OverEndpoints, Signal, SignalSource};
pub use transport::{PoolTls, Protocol, Transport, host_of};

/// A whole, valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub state: State,
    pub pools: BTreeMap<PoolName, Pool>,
    /// As written; the most specific match wins (exact host, then the longest wildcard, then none; then the longest path).
    pub routes: Vec<Route>,
    pub rollouts: BTreeMap<RolloutName, Rollout>,
    /// Who is told of what happens, by unique names.
    pub notify: Vec<Channel>,
    /// Whether faults may be injected into canary's requests.
    pub rehearsals: bool,
    pub tracing: Tracing,
    /// `None` where this proxy is alone.
    pub fleet: Option<Fleet>,
    /// Which values are not the file's alone.
    pub environment: Vec<Origin>,
}

/// A value that the environment gave, or could have given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `pools.original.endpoints[0]`.
    pub key: String,
    pub variable: String,
    pub how: How,
}

/// How a variable came to be asked for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Its name is the place: `SERIN__SERVER__WORKERS`.
    Override,
    /// The file says `${VAR}`.
    Template,
    /// The same, and its default stands in: it is not set, or empty.
    Default,
}

/// Which requests are told as spans, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// `None` where nobody is told.
    pub collector: Option<Collector>,
    /// Of the requests whose client says nothing of a trace.
    pub share: Weight,
    pub parents: Parents,
}

/// Whose word counts that a trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    All,
    /// Trusted peers'.
    Trusted,
}

/// Who takes spans: OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    pub endpoint: http::Uri,
    /// Values may be secrets.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub service: String,
    pub timeout: Duration,
    /// Spans that wait at most.
    pub queue: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub listen: Vec<SocketAddr>,
    /// Of the listeners that speak only TLS: their certificates, as the files said.
    pub tls: BTreeMap<SocketAddr, tls::Loaded>,
    /// The listeners on which every connection begins with a PROXY header.
    pub proxy_protocol: BTreeSet<SocketAddr>,
    /// Never 0: one per core, or as many as a cgroup's quota allows, where the file says 0.
    pub workers: usize,
    pub trusted: Vec<IpNet>,
    /// 0 = as many as the limits of files and memory leave room for.
    pub max_connections: usize,
    /// Of all requests together.
    pub overload: Overload,
    pub limits: Limits,
    pub timeouts: ServerTimeouts,
    pub log: Log,
}

/// Bytes, or a count; 0 = no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub head_bytes: usize,
    pub headers: usize,
    pub target_bytes: usize,
    pub body_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTimeouts {
    pub first_byte: Duration,
    pub head: Duration,
    pub body_idle: Duration,
    pub write_idle: Duration,
    pub keep_alive: Duration,
    pub stream_idle: Duration,
    pub drain_delay: Duration,
    pub idle_grace: Duration,
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    pub access: AccessLog,
}

/// Which requests are told on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    /// Answers 5xx, serin's own, and those that broke off.
    Errors,
    /// So many of all, at random.
    Share(Weight),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// What its files said; `None` where no TLS is spoken.
    pub tls: Option<tls::Loaded>,
    pub hosts: Vec<String>,
    pub open_metrics: bool,
    pub tokens: Vec<Token>,
}

/// A token is kept only as its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub name: String,
    pub roles: Vec<Role>,
    pub sha256: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Read,
    Operate,
    /// `approve:<role>`.
    Approve(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub path: PathBuf,
    pub deployment_logs: PathBuf,
    pub retention: Duration,
    /// Whether a run's inputs are kept for `serin replay`.
    pub record_inputs: bool,
}

/// A channel of notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub name: String,
    pub kind: ChannelKind,
    /// `http` or `https` with a host.
    pub url: Secret,
    /// Kinds of events, words of `records::kinds`.
    pub events: BTreeSet<&'static str>,
    /// Signs each notice.
    pub secret: Option<Secret>,
    /// From one reminder of a hold to the next; zero = none.
    pub escalate_after: Duration,
    /// From one notice of progress to the next; zero = none.
    pub digest: Duration,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    Slack,
    Webhook,
}

impl ChannelKind {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Webhook => "webhook",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// No address twice; at least one, or none where they are looked up.
    pub endpoints: Vec<Endpoint>,
    /// Where the endpoints are looked up instead.
    pub dns: Option<Dns>,
    pub balance: Balance,
    /// Where this proxy stands: endpoints of the same zone are preferred.
    pub zone: Option<String>,
    pub transport: Transport,
    pub health: Option<Health>,
    pub timeouts: PoolTimeouts,
    /// How long an endpoint that is new or back takes to its whole share; zero = no time.
    pub slow_start: Duration,
    /// `None` where endpoints are never ejected.
    pub ejection: Option<Ejection>,
    pub overload: Overload,
    pub retries: Retries,
    /// Set on requests of this pool: valid header names (lower case) and values.
    pub request_headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastRequests,
    /// Two random choices by peak EWMA.
    P2c,
    /// Consistent hash of the learner.
    Ring,
}

impl Balance {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequests => "least_requests",
            Self::P2c => "p2c",
            Self::Ring => "ring",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub kind: HealthKind,
    /// Of a check of gRPC; empty = the server as a whole.
    pub service: String,
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_after: u32,
    pub healthy_after: u32,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthKind {
    /// For a path; an answer 2xx is healthy.
    Http,
    /// For a connection, with its handshake where TLS is spoken.
    Tcp,
    /// `grpc.health.v1.Health/Check`; SERVING is healthy.
    Grpc,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTimeouts {
    pub connect: Duration,
    pub answer_head: Duration,
    pub body_idle: Duration,
    pub idle: Duration,
    /// To the answer's head, over all attempts; zero = none.
    pub request: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// After the first.
    pub attempts: u32,
    pub per_try: Duration,
    /// Share of requests that may be retries, 0.0 to 1.0.
    pub budget: f64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub host: HostPattern,
    /// Begins with `/` and, but for the root, does not end with it; matches whole path segments: `/api` matches
    /// `/api` and `/api/x`, not `/apix`.
    pub path: String,
    pub target: Target,
    pub idempotent: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    Any,
    /// Lower case, without port.
    Exact(String),
    /// `*.example.org` is kept as `.example.org`: any host that ends so, with at least one label before it.
    Suffix(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Pool(PoolName),
    Rollout(RolloutName),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    pub plan: Plan,
    pub learner: Vec<LearnerSource>,
    pub segment: Option<LearnerSource>,
    pub failover: Failover,
    pub failover_after: Option<Duration>,
    pub weight_at_rest: Weight,
    /// HTTP statuses counted as errors beside 5xx, ascending.
    pub error_statuses: Vec<u16>,
    pub max_segments: usize,
    pub stream_grace: Duration,
    /// How the sources of the plan's signals are asked; applies at once.
    pub signals: Vec<Signal>,
    /// Copies of baseline's requests for canary; applies at once.
    pub mirror: Option<Mirror>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LearnerSource {
    Header(http::HeaderName),
    Cookie(String),
    Query(String),
    ClientIp,
    Random,
}

/// Which failures of canary are answered by baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    pub connect: bool,
    pub reset: bool,
    pub timeout: bool,
    pub status_5xx: bool,
}

/// One fault of a file, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// 1 = the first line; `None` where the fault has no place in the file (it cannot be read).
    pub line: Option<usize>,
    /// `pools.original.balance`; empty for faults of the whole file.
    pub key: String,
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}
