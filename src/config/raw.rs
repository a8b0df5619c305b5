//! proxy.toml as typed: every table and key, with the form of its value and its default.
//!
//! This listing is the one source of the reader and of the JSON Schema. It knows the shape of the
//! file, and nothing of what one part means to another: that is `check`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeTable;

use super::amount::{Number, Share, Size};
use super::defaults;
use super::ejection::EjectionTable;
use super::endpoints::EndpointForm;
use super::form::{Accepted, Count, Entries, Named, OrFalse, Reading};
use super::header::Headers;
use super::leaf::{
    CallUrl, ChannelName, EventWord, HostName, HttpUrl, Sha256Hex, TokenName, UrlPath, Wait,
};
use super::overload::{PoolOverload, ServerOverload};
use super::table::table;
use super::word::{
    Agg, FailureKind, Fallback, Listen, PoolTlsTable, SignalKindWord, Then, UnprovenWord,
};
use super::{
    AccessLog, Balance, ChannelKind, Dns, HealthKind, HostPattern, LearnerSource, LogFormat,
    LogLevel, Protocol, Role,
};
use crate::rollout::condition::Condition;
use crate::rollout::name::{PoolName, RoleName, RolloutName, SignalName, StageName};
use crate::rollout::plan::{HookMethod, Mode, OnFailure, When};
use crate::rollout::schedule::{DEFAULT_START_GRACE, Days, Daytime, Zone};
use crate::rollout::time::WallTime;
use crate::rollout::weight::Weight;

table! {
    /// The configuration of serin.
    File {
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
        }
        later { fleet, }
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
    /// Where learners connect.
    Server {
        has {
            /// Addresses, or tables { address, tls }.
            listen: Vec<Listen> = vec![Listen::from(defaults::LISTEN)],
            /// Worker threads; 0 = one per core.
            workers: Count<0, 1024> = Count(defaults::WORKERS),
            /// Where this proxy stands; endpoints of the same zone are preferred. Empty = nowhere.
            zone: String = String::new(),
            /// Networks whose forwarded headers and x-serin-pool count.
            trusted: Vec<IpNet> = Vec::new(),
            /// Client connections; 0 = 80 % of the file limit.
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
        later { tls, client_ca, proxy_protocol = Accepted::Bool(false), }
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
        later { tls, }
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
        }
        later { proxy_protocol = Accepted::Bool(false), }
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

table! {
    /// A staged move from a baseline pool to a canary pool.
    Rollout {
        needs {
            /// The pool that carries learners today.
            baseline: PoolName,
            /// The pool they are moved to.
            canary: PoolName,
            /// The steps, in order.
            stages: Vec<Stage>,
        }
        may {
            /// Mixed into each learner's hash; the rollout's name if absent.
            salt: String,
            /// Ends a canary attempt that baseline can still answer; from the stage's p99 limit if absent.
            failover_after: Wait,
            /// What follows the last stage before the rollout is complete; nothing if absent.
            stabilization: Stabilization,
        }
        has {
            /// Where a learner's id comes from: the first source that has one.
            learner: Vec<LearnerSource> = defaults::learner(),
            /// Where a learner's segment comes from, or false.
            segment: OrFalse<LearnerSource> = OrFalse::On(defaults::segment()),
            /// Of the canary; a change begins the stage anew.
            version: String = String::new(),
            /// Which failures of canary are answered by baseline.
            failover: Vec<FailureKind> = FailureKind::ALL.to_vec(),
            /// Canary's weight where there is no journal.
            weight_at_rest: Weight = defaults::WEIGHT_AT_REST,
            /// HTTP statuses counted as errors beside 5xx.
            error_statuses: Vec<Count<100, 599>> = Vec::new(),
            /// How long streams may go on after a rollback.
            stream_grace: Duration = defaults::STREAM_GRACE,
            /// The share of learners never moved before the end.
            holdout: Weight = defaults::HOLDOUT,
            /// Segments told apart; the rest are counted together.
            max_segments: Count<1, 1024> = Count(defaults::MAX_SEGMENTS),
            /// The share of baseline's endpoints needed for a step up.
            baseline_min_healthy: Share = Share(defaults::BASELINE_MIN_HEALTHY),
            /// Settings of the gate for every stage.
            gate: Gate = Gate::default(),
            /// What the rollout is for.
            mode: Mode = Mode::Rollout,
            /// Figures from outside that conditions may name.
            signals: Vec<Signal> = Vec::new(),
        }
    }
}

table! {
    /// A figure that the proxy cannot see. Which keys it takes depends on its source.
    Signal {
        needs {
            /// What conditions name it by.
            name: SignalName,
            /// Where it comes from.
            source: SignalKindWord,
        }
        may {
            /// Of Prometheus, or of the JSON document; {pool} and {arm} are filled in.
            url: HttpUrl,
            /// PromQL, a JSON pointer, or series of a scrape; {pool} and {arm} are filled in.
            query: String,
            /// What is scraped from each endpoint; /metrics if absent.
            path: UrlPath,
            /// The scraped series are counters: their growth per second is meant.
            rate: bool,
            /// One figure from those of the endpoints.
            agg: Agg,
            /// From one reading to the next, 15s if absent; older than three of them is no data.
            interval: Wait,
            /// How long a reading may take, 5s if absent.
            timeout: Wait,
        }
        has {
            /// Whether a criterion that is unproven lets the stage go on.
            unproven: UnprovenWord = UnprovenWord::Extend,
        }
    }
}

table! {
    /// Settings of the gate for every stage.
    Gate {
        has {
            /// When an outage of both pools rolls back all the same.
            outage_patience: Wait = Wait(defaults::OUTAGE_PATIENCE),
            /// The longest interruption over which windows are kept.
            max_gap: Duration = defaults::MAX_GAP,
            /// Until another start needs force after a rollback.
            cooldown: Duration = defaults::COOLDOWN,
            /// Requests from which a segment is compared and judged by itself.
            min_segment_requests: Count<1, 1_000_000_000> = Count(defaults::MIN_SEGMENT_REQUESTS),
            /// Segments lowered by triggers before everybody is rolled back.
            max_failed_segments: Count<0, 1024> = Count(defaults::MAX_FAILED_SEGMENTS),
            /// How long an approval counts.
            approval_ttl: Wait = Wait(defaults::APPROVAL_TTL),
            /// Until a rollout that waits for a person reminds of it, again and again.
            escalate_after: Wait = Wait(defaults::ESCALATE_AFTER),
            /// Rolls back in every phase, or false.
            tripwire: OrFalse<Condition> = defaults::tripwire(),
            /// The chance of a false alarm in the whole rollout.
            alpha: Share = Share(defaults::ALPHA),
            /// How many times baseline's odds of failing canary's may be.
            odds_margin: Number = Number(defaults::ODDS_MARGIN),
        }
    }
}

table! {
    /// One step of a rollout.
    Stage {
        needs {
            /// Unique within the rollout.
            name: StageName,
            /// The share of learners on canary.
            weight: Weight,
            /// How long the stage is observed.
            duration: Wait,
        }
        may {
            /// How long an undecided stage may go on; its duration if absent.
            max_extension: Duration,
            /// Where a trigger goes instead of 0.
            on_rollback: Fallback,
            /// The step into the stage is not taken before.
            start_at: WallTime,
            /// The hours in which the rollout may leave the stage; any if absent.
            window: Window,
        }
        has {
            /// Left out of criteria and of relative and latency triggers.
            warmup: Duration = defaults::WARMUP,
            /// Stage times at which all figures are recorded.
            checkpoints: Vec<Wait> = Vec::new(),
            /// Canary requests before anything but a rollback is decided.
            min_requests: Count<1, 1_000_000_000_000> = Count(defaults::MIN_REQUESTS),
            /// Requests from which a window has data.
            min_window_requests: Count<1, 1_000_000_000> = Count(defaults::MIN_WINDOW_REQUESTS),
            /// What must hold for the next stage.
            advance: Vec<Condition> = Vec::new(),
            /// What holds the rollout.
            hold: Vec<Condition> = defaults::hold(),
            /// What takes it back.
            rollback: Vec<Condition> = defaults::rollback(),
            /// What follows when every criterion is met.
            on_success: Then = Then::Advance,
            /// The roles whose approval is asked for; with on_success = "approve".
            approvers: Vec<RoleName> = Vec::new(),
            /// A start_at missed by more awaits a person.
            start_grace: Duration = DEFAULT_START_GRACE,
            /// What follows when a criterion is not met at the end.
            on_failure: OnFailure = OnFailure::Hold,
            /// What is run outside of serin around the stage.
            hooks: Hooks = Hooks::default(),
        }
    }
}

table! {
    /// What is run outside of serin around a stage, each list in its order.
    Hooks {
        has {
            /// Before the step to the stage; one that fails blocks it.
            before: Vec<Hook> = Vec::new(),
            /// When the stage has passed.
            after: Vec<Hook> = Vec::new(),
            /// After a rollback, when the weights are back.
            rollback: Vec<Hook> = Vec::new(),
            /// When a trigger finds no usable baseline to go back to.
            on_no_baseline: Vec<Hook> = Vec::new(),
        }
    }
}

table! {
    /// A program or an HTTP call; exactly one of command and url.
    Hook {
        may {
            /// Unique in its list; the list's name and a number if absent.
            name: ChannelName,
            /// A program and its arguments; no shell.
            command: Vec<String>,
            /// What is called; an answer 2xx passes.
            url: CallUrl,
            /// Of the call; POST if absent.
            method: HookMethod,
            /// May be run again after a crash; calls are, commands are not, if absent.
            idempotent: bool,
            /// Finds out how it ended, where a crash left that unknown.
            verify: Verify,
        }
        has {
            /// How long an attempt may take.
            timeout: Wait = Wait(defaults::HOOK_TIMEOUT),
            /// Attempts after the first.
            retries: Count<0, 10> = Count(defaults::HOOK_RETRIES),
            /// Whether it is run at all.
            when: When = When::Always,
        }
    }
}

table! {
    /// A program or an HTTP call that finds out how a hook ended.
    Verify {
        may {
            /// A program and its arguments; no shell.
            command: Vec<String>,
            /// What is called; an answer 2xx passes.
            url: CallUrl,
            /// Of the call; POST if absent.
            method: HookMethod,
        }
        has {
            /// How long it may take.
            timeout: Wait = Wait(defaults::HOOK_TIMEOUT),
        }
    }
}

table! {
    /// Hours of some days of the week.
    Window {
        needs {
            /// Days like "mon", or "mon-thu".
            days: Vec<Days>,
            /// From one time of the day to another.
            hours: Daytime,
        }
        has {
            /// Whose clocks are meant.
            tz: Zone = Zone::utc(),
        }
    }
}

table! {
    /// What follows the last stage before a rollout is complete.
    Stabilization {
        may {
            /// What takes the rollout back; the last stage's if absent.
            rollback: Vec<Condition>,
            /// How closely it is watched, from the beginning on; two days, four days and a week if absent.
            levels: Vec<Level>,
        }
        has {
            /// How long it lasts.
            duration: Wait = Wait(defaults::STABILIZATION),
            /// A day that fails one of these begins the whole anew.
            require: Vec<Condition> = Vec::new(),
            /// What holds the rollout, to investigate.
            hold: Vec<Condition> = defaults::stabilization_hold(),
        }
    }
}

table! {
    /// How closely a part of the stabilization is watched.
    Level {
        needs {
            /// Unique within the stabilization.
            name: StageName,
            /// How long it lasts.
            r#for: Wait,
            /// How often all figures are recorded.
            report: Wait,
        }
    }
}

impl File {
    /// Reads a whole file.
    pub(super) fn read_root(table: &DeTable<'_>, reading: &mut Reading<'_>) -> Self {
        Self::read_entries(&Entries::root(table), reading)
    }
}
