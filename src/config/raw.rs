//! proxy.toml as typed: every table and key, with the form of its value and its default.
//!
//! This listing is the one source of the reader and of the JSON Schema. It knows the shape of the
//! file, and nothing of what one part means to another: that is `check`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeTable;

use super::amount::{Share, Size};
use super::defaults;
use super::ejection::EjectionTable;
use super::endpoints::EndpointForm;
use super::fleet::NatsUrl;
use super::form::{Count, Entries, Named, OrFalse, Reading};
use super::header::{CallHeaders, Headers};
use super::leaf::{
    CallUrl, ChannelName, EventWord, HostName, MemberName, Sha256Hex, TokenName, UrlPath, Wait,
};
use super::overload::{PoolOverload, ServerOverload};
use super::staged::Rollout;
use super::table::table;
use super::word::{FleetTlsTable, Listen, ListenTls, PoolTlsTable};
use super::{
    AccessLog, Aggregate, Balance, ChannelKind, Dns, HealthKind, HostPattern, LogFormat, LogLevel,
    OnIsolated, Parents, Protocol, Role,
};
use crate::proxy_protocol::Version;
use crate::rollout::name::{PoolName, RolloutName};
use crate::rollout::weight::Weight;

table! {
    /// The configuration of serin.
    File {
        may {
            /// The other proxies that carry the same rollouts, and the NATS servers that join them.
            fleet: Fleet,
        }
        has {
            /// Where learners connect.
            server: Server = Server::default(),
            /// Where operators and scrapers connect.
            admin: Admin = Admin::default(),
            /// What survives the process.
            state: State = State::default(),
            /// Sets of endpoints, by name.
            pools: Named<PoolName, Pool> = Named::default(),
            /// Which requests go where: the most specific host wins, then the longest path.
            routes: Vec<Route> = Vec::new(),
            /// Staged moves from a baseline pool to a canary pool, by name.
            rollouts: Named<RolloutName, Rollout> = Named::default(),
            /// Drills of a rollback.
            rehearsal: Rehearsal = Rehearsal::default(),
            /// Who is told of what happens.
            notify: Vec<Notify> = Vec::new(),
            /// Spans of requests for a collector of OpenTelemetry.
            tracing: Tracing = Tracing::default(),
        }
    }
}

table! {
    /// Drills of a rollback.
    Rehearsal {
        has {
            /// Whether faults may be injected into canary's requests.
            enabled: bool = false,
        }
    }
}

table! {
    /// Spans of requests for a collector of OpenTelemetry; none without an endpoint.
    Tracing {
        may {
            /// Where spans are posted by OTLP over HTTP, in protobuf.
            endpoint: CallUrl,
        }
        has {
            /// Of the requests whose client says nothing of a trace, so many are told.
            share: Weight = defaults::traced(),
            /// Whose traces go on as their client records them: of "all", or of "trusted" peers only.
            parents: Parents = Parents::All,
            /// What the spans are said to be of.
            service: String = defaults::TRACED_SERVICE.to_owned(),
            /// Headers set on what is posted.
            headers: CallHeaders = CallHeaders::default(),
            /// How long the collector may take.
            timeout: Wait = Wait(defaults::TRACING_TIMEOUT),
            /// Spans that wait at most; more are dropped.
            queue: Count<1, 1_000_000> = Count(defaults::TRACING_QUEUE),
        }
    }
}

table! {
    /// Where learners connect.
    Server {
        has {
            /// Addresses, or tables { address, tls, proxy_protocol }.
            listen: Vec<Listen> = vec![Listen::from(defaults::LISTEN)],
            /// Worker threads; 0 = one per core, or as many as the quota of a cgroup allows.
            workers: Count<0, 1024> = Count(defaults::WORKERS),
            /// Where this proxy stands; endpoints of the same zone are preferred. Empty = nowhere.
            zone: String = String::new(),
            /// Networks whose forwarded headers and x-serin-pool count.
            trusted: Vec<IpNet> = Vec::new(),
            /// Client connections; 0 = 80 % of the file limit, and no more than fit into the memory of a cgroup.
            max_connections: Count<0, { u64::MAX }> = Count(defaults::MAX_CONNECTIONS),
            /// Requests under way at a time, and who waits.
            overload: ServerOverload = ServerOverload::default(),
            /// Limits of a request; 0 = no limit.
            limits: Limits = Limits::default(),
            /// How long a client may keep us waiting.
            timeouts: ServerTimeouts = ServerTimeouts::default(),
            /// What is logged, and how.
            log: Log = Log::default(),
        }
    }
}

table! {
    /// Limits of a request; 0 = no limit.
    Limits {
        has {
            /// Bytes of a request's head.
            head: Size = Size(defaults::HEAD),
            /// Number of headers.
            headers: Count<0, 32768> = Count(defaults::HEADERS),
            /// Bytes of a request's target.
            target: Size = Size(defaults::TARGET),
            /// Bytes of a request's body.
            body: Size = Size(defaults::BODY),
        }
    }
}

table! {
    /// How long a client may keep us waiting.
    ServerTimeouts {
        has {
            /// From the connection to its first byte.
            first_byte: Wait = Wait(defaults::FIRST_BYTE),
            /// From the first byte of a head to its end.
            head: Wait = Wait(defaults::HEAD_TIME),
            /// Between two parts of a request's body.
            body_idle: Wait = Wait(defaults::BODY_IDLE),
            /// While the client does not read.
            write_idle: Wait = Wait(defaults::WRITE_IDLE),
            /// Between two requests of one connection.
            keep_alive: Wait = Wait(defaults::KEEP_ALIVE),
            /// Silence of event streams and tunnels.
            stream_idle: Wait = Wait(defaults::STREAM_IDLE),
            /// From the signal to end until connections are no longer accepted.
            drain_delay: Duration = defaults::DRAIN_DELAY,
            /// How long idle connections live on while draining.
            idle_grace: Duration = defaults::IDLE_GRACE,
            /// When the rest is cut.
            drain: Duration = defaults::DRAIN,
        }
    }
}

table! {
    /// What is logged, and how.
    Log {
        has {
            /// The least important level that is logged.
            level: LogLevel = LogLevel::Info,
            /// Text for people, JSON for machines.
            format: LogFormat = LogFormat::Text,
            /// Which requests are told on standard output, a line each: "off", "errors", "all", or a share of them.
            access: AccessLog = AccessLog::Off,
        }
    }
}

table! {
    /// Where operators and scrapers connect.
    Admin {
        may {
            /// Only TLS is spoken.
            tls: ListenTls,
        }
        has {
            /// On any address but loopback tokens are needed.
            listen: SocketAddr = defaults::ADMIN_LISTEN,
            /// Names allowed in Host beside IP literals and localhost.
            hosts: Vec<HostName> = Vec::new(),
            /// /metrics without a token.
            open_metrics: bool = false,
            /// Who may do what.
            tokens: Vec<Token> = Vec::new(),
        }
    }
}

table! {
    /// A bearer token, by exactly one of token_env, token_file and sha256.
    Token {
        needs {
            /// Every change is recorded with it.
            name: TokenName,
        }
        may {
            /// The environment variable that holds the token.
            token_env: String,
            /// The file that holds the token.
            token_file: PathBuf,
            /// The token's SHA-256.
            sha256: Sha256Hex,
        }
        has {
            /// What the bearer may do.
            roles: Vec<Role> = vec![Role::Read],
        }
    }
}

table! {
    /// What survives the process.
    State {
        has {
            /// The journal and the samples.
            path: PathBuf = PathBuf::from(defaults::STATE_PATH),
            /// The directory of the deployment logs.
            deployment_logs: PathBuf = PathBuf::from(defaults::DEPLOYMENT_LOGS),
            /// How long history is kept.
            retention: Wait = Wait(defaults::RETENTION),
            /// Whether a run's inputs are kept beside its deployment log, for `serin replay`.
            record_inputs: bool = true,
        }
    }
}

table! {
    /// A channel that notices are sent to.
    Notify {
        needs {
            /// A Slack webhook, or any HTTP endpoint that takes JSON.
            kind: ChannelKind,
            /// Where notices are posted.
            url: CallUrl,
        }
        may {
            /// Unique; the kind if absent.
            name: ChannelName,
            /// Signs each notice of a webhook.
            secret: String,
            /// The environment variable that holds the secret.
            secret_env: String,
        }
        has {
            /// Kinds of events, or groups of them: all, decisions, alarms, hooks.
            events: Vec<EventWord> = defaults::notify_events(),
            /// From one reminder of a hold to the next; 0s = none.
            escalate_after: Duration = defaults::ESCALATE_AFTER,
            /// From one notice of progress to the next while a rollout runs; 0s = none.
            digest: Duration = defaults::DIGEST,
            /// How long a notice may take.
            timeout: Wait = Wait(defaults::NOTICE_TIMEOUT),
        }
    }
}

table! {
    /// The other proxies that carry the same rollouts, and the NATS servers that join them.
    Fleet {
        needs {
            /// The NATS servers, as nats:// or tls:// with host and port; any of them is enough to find the others.
            servers: Vec<NatsUrl>,
        }
        may {
            /// This member's, unique in the fleet; left out, the host's.
            name: MemberName,
            /// A credentials file of NATS, with a JWT and its key.
            credentials: PathBuf,
            /// Who logs in with a password.
            user: String,
            /// The environment variable that holds the password.
            password_env: String,
            /// The file that holds the password.
            password_file: PathBuf,
            /// The environment variable that holds the token.
            token_env: String,
            /// The file that holds the token.
            token_file: PathBuf,
        }
        has {
            /// Where this member stands; empty = nowhere.
            region: String = String::new(),
            /// Where this member's seconds are added up first: by the fleet's leader, or by one member of its region for all of them.
            aggregate: Aggregate = Aggregate::Fleet,
            /// What the fleet's buckets, its stream and its subjects begin with.
            bucket: MemberName = MemberName(defaults::FLEET_BUCKET.to_owned()),
            /// TLS to the servers.
            tls: FleetTlsTable = FleetTlsTable::default(),
            /// What this member does with its canaries when NATS has been away for isolated_after.
            on_isolated: OnIsolated = OnIsolated::Keep,
            /// How long NATS is away until a member counts as isolated.
            isolated_after: Wait = Wait(defaults::ISOLATED_AFTER),
        }
    }
}

table! {
    /// A set of endpoints.
    Pool {
        may {
            /// host:port of each endpoint, or tables { address, weight, zone }.
            endpoints: Vec<EndpointForm>,
            /// Or the DNS name that has them: host:port, a service, or a table { name, servers }.
            dns: Dns,
            /// TLS to the endpoints.
            tls: PoolTlsTable,
        }
        has {
            /// How an endpoint is chosen.
            balance: Balance = Balance::RoundRobin,
            /// Active checks, or false.
            health: OrFalse<Health> = OrFalse::On(Health::default()),
            /// How long an endpoint may keep us waiting.
            timeouts: PoolTimeouts = PoolTimeouts::default(),
            /// Leaving out endpoints that fail their requests, or false.
            ejection: OrFalse<EjectionTable> = OrFalse::On(EjectionTable::default()),
            /// Requests under way at a time, and who waits.
            overload: PoolOverload = PoolOverload::default(),
            /// How long an endpoint that is new or back takes to its whole share; 0s = no time.
            slow_start: Duration = defaults::SLOW_START,
            /// Further attempts on other endpoints.
            retries: Retries = Retries::default(),
            /// Headers set on requests of this pool.
            request_headers: Headers = Headers::default(),
            /// What the endpoints speak.
            protocol: Protocol = Protocol::Http1,
            /// The version of the PROXY protocol that tells the endpoints of the client, or false.
            proxy_protocol: OrFalse<Version> = OrFalse::Off,
        }
    }
}

table! {
    /// Active health checks of a pool.
    Health {
        has {
            /// What is asked: HTTP for a path, TCP for a connection, gRPC its health service.
            kind: HealthKind = HealthKind::Http,
            /// The service that gRPC is asked for; empty = the server as a whole.
            service: String = String::new(),
            /// What is asked for; an answer 2xx is healthy.
            path: UrlPath = UrlPath(defaults::HEALTH_PATH.to_owned()),
            /// From one probe to the next.
            interval: Wait = Wait(defaults::HEALTH_INTERVAL),
            /// How long a probe may take.
            timeout: Wait = Wait(defaults::HEALTH_TIMEOUT),
            /// Failed probes in a row until an endpoint is not used.
            unhealthy_after: Count<1, 1000> = Count(defaults::UNHEALTHY_AFTER),
            /// Passed probes in a row until it is used again.
            healthy_after: Count<1, 1000> = Count(defaults::HEALTHY_AFTER),
        }
    }
}

table! {
    /// How long an endpoint may keep us waiting.
    PoolTimeouts {
        has {
            /// To a connection.
            connect: Wait = Wait(defaults::CONNECT),
            /// From the request's end to the answer's head.
            answer_head: Wait = Wait(defaults::ANSWER_HEAD),
            /// Between two parts of the answer's body.
            body_idle: Wait = Wait(defaults::POOL_BODY_IDLE),
            /// How long an unused connection is kept.
            idle: Wait = Wait(defaults::POOL_IDLE),
            /// To the answer's head over all attempts; 0s = none.
            request: Duration = defaults::REQUEST,
        }
    }
}

table! {
    /// Further attempts on other endpoints.
    Retries {
        has {
            /// After the first.
            attempts: Count<0, 10> = Count(defaults::ATTEMPTS),
            /// How long an attempt may take where another can follow.
            per_try: Wait = Wait(defaults::PER_TRY),
            /// The share of requests that may be retries.
            budget: Share = Share(defaults::RETRY_BUDGET),
        }
    }
}

table! {
    /// Which requests go where; exactly one of rollout and pool.
    Route {
        may {
            /// A host, or *.host for all below it; any host if absent.
            host: HostPattern,
            /// The rollout that chooses the pool.
            rollout: RolloutName,
            /// The pool.
            pool: PoolName,
        }
        has {
            /// A prefix of whole path segments.
            path: UrlPath = UrlPath(defaults::ROUTE_PATH.to_owned()),
            /// Every method may be repeated.
            idempotent: bool = false,
        }
    }
}

impl File {
    /// Reads a whole file.
    pub(super) fn read_root(table: &DeTable<'_>, reading: &mut Reading<'_>) -> Self {
        Self::read_entries(&Entries::root(table), reading)
    }
}
