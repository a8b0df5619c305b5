//! What holds where the file says nothing. Each constant says why it is what it is.
//!
//! The values are those of the documented `proxy.toml`; a test compares the two.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::LearnerSource;
use super::form::OrFalse;
use super::leaf::EventWord;
use super::word::FailureKind;
use crate::rollout::condition::Condition;
use crate::rollout::name::StageName;
use crate::rollout::plan::{EvidenceParts, Level};
use crate::rollout::weight::Weight;

const KIB: u64 = 1024;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What Prometheus itself scrapes at: more often tells little more.
pub(super) const SIGNAL_INTERVAL: Duration = Duration::from_secs(15);
/// A source that takes longer would be read late the next time as well.
pub(super) const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Where everybody has it.
pub(super) const SIGNAL_PATH: &str = "/metrics";

/// Loopback, so that nothing is open to a network before somebody says so.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Loopback: the admin port needs no token there.
pub(super) const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
/// 0 = one worker per core: a worker never waits for another.
pub(super) const WORKERS: u64 = 0;
/// 0 = 80 % of the file limit: each request may need a second descriptor, and logs and the store some.
pub(super) const MAX_CONNECTIONS: u64 = 0;

/// Room for large cookies and tokens; four times what common servers take.
pub(super) const HEAD: u64 = 64 * KIB;
/// Browsers send some 20 headers, gateways add as many again.
pub(super) const HEADERS: u64 = 100;
/// Longer targets are refused by most servers behind us anyway.
pub(super) const TARGET: u64 = 8 * KIB;
/// Bodies are streamed, never kept, so their size costs no memory: no limit.
pub(super) const BODY: u64 = 0;

/// An open connection that says nothing is cheap to open and dear to keep.
pub(super) const FIRST_BYTE: Duration = Duration::from_secs(10);
/// A head fits in a few packets; who needs longer trickles.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bridges a hand-over between mobile cells.
pub(super) const BODY_IDLE: Duration = Duration::from_secs(30);
/// The same for a client that reads slowly.
pub(super) const WRITE_IDLE: Duration = Duration::from_secs(30);
/// Above the 60 s of common load balancers, so that they close first and no request crosses our close.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Event streams and tunnels are silent for minutes by nature.
pub(super) const STREAM_IDLE: Duration = Duration::from_secs(10 * MINUTE);
/// Only orchestrators that take an instance out of rotation late need a delay.
pub(super) const DRAIN_DELAY: Duration = Duration::ZERO;
/// A request on its way when the drain begins arrives within a round trip or two.
pub(super) const IDLE_GRACE: Duration = Duration::from_secs(5);
/// Below the 30 s after which orchestrators kill.
pub(super) const DRAIN: Duration = Duration::from_secs(25);

/// A month of history for the reports.
pub(super) const RETENTION: Duration = Duration::from_secs(30 * 24 * HOUR);
/// Beside the working directory's other files.
pub(super) const STATE_PATH: &str = "state/serin.db";
/// The directory that the client's tools look into.
pub(super) const DEPLOYMENT_LOGS: &str = "deployment-logs";

/// Endpoints are alike until somebody says otherwise.
pub(super) const ENDPOINT_WEIGHT: u64 = 1;

/// Caches and pools of connections fill within seconds; longer keeps the others overloaded.
pub(super) const SLOW_START: Duration = Duration::from_secs(10);

/// What says that the endpoint is gone. An answer of its own, 5xx too, may be the request's doing, and is the gate's matter.
pub(super) const EJECT_ON: [FailureKind; 3] = [
    FailureKind::Connect,
    FailureKind::Reset,
    FailureKind::Timeout,
];
/// Five in a row are no accident: an endpoint that fails one in ten does so once in 100,000 requests.
pub(super) const EJECT_CONSECUTIVE: u64 = 5;
/// Half of what it is given: the others would do better.
pub(super) const EJECT_SHARE: f64 = 0.5;
/// Fewer say little of a share.
pub(super) const EJECT_MIN_REQUESTS: u64 = 20;
/// Long enough for a share, short enough to forget.
pub(super) const EJECT_OVER: Duration = Duration::from_secs(10);
/// A restart takes some seconds.
pub(super) const EJECT_TIME_OUT: Duration = Duration::from_secs(10);
/// Who is still sick then is asked every five minutes.
pub(super) const EJECT_MAX_TIME_OUT: Duration = Duration::from_secs(5 * MINUTE);

/// 0 = no limit: what a pool can carry only its owner knows, or `adaptive` finds out.
pub(super) const IN_FLIGHT: u64 = 0;
/// Nobody waits where nobody said how many may: a queue hides an overload from those who could react to it.
pub(super) const QUEUED: u64 = 0;
/// Who waits longer would be gone when a place is free.
pub(super) const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// The client's health path.
pub(super) const HEALTH_PATH: &str = "/health";
/// The client's interval.
pub(super) const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// A probe does nothing, so a second is long.
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// One lost packet is no outage; three probes in a row are.
pub(super) const UNHEALTHY_AFTER: u64 = 3;
/// Coming back too early costs learners more than coming back 5 s later.
pub(super) const HEALTHY_AFTER: u64 = 2;

/// Within one data centre a connection takes milliseconds; a second means that the host is gone.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// An analyzer may compute for long before it answers.
pub(super) const ANSWER_HEAD: Duration = Duration::from_secs(30);
/// As on the client's side.
pub(super) const POOL_BODY_IDLE: Duration = Duration::from_secs(30);
/// Below the usual 5 s of servers, so that we close idle connections before they do.
pub(super) const POOL_IDLE: Duration = Duration::from_secs(4);
/// 0 = none: `answer_head` and `attempts` bound the whole already.
pub(super) const REQUEST: Duration = Duration::ZERO;

/// One more attempt finds a healthy endpoint nearly always; more multiply the load of an outage.
pub(super) const ATTEMPTS: u64 = 1;
/// Leaves time for the second attempt within `answer_head`.
pub(super) const PER_TRY: Duration = Duration::from_secs(10);
/// Keeps retries from bringing down what is weak already.
pub(super) const RETRY_BUDGET: f64 = 0.2;

/// Matches every request.
pub(super) const ROUTE_PATH: &str = "/";

/// The sources of a learner's id in the order of their stability.
const LEARNER: [&str; 4] = [
    "header:x-learner-id",
    "cookie:learner_id",
    "query:learner_id",
    "client_ip",
];
/// The header that names a learner's segment.
const SEGMENT: &str = "header:x-learner-segment";
/// Everybody on baseline where nothing is known.
pub(super) const WEIGHT_AT_REST: Weight = Weight::ZERO;
/// Nobody is kept back.
pub(super) const HOLDOUT: Weight = Weight::ZERO;
/// Half a minute lets a stream end by itself after a rollback.
pub(super) const STREAM_GRACE: Duration = Duration::from_secs(30);
/// Below this a segment's success rate moves by a point with each request.
pub(super) const MIN_SEGMENT_REQUESTS: u64 = 100;
/// One bad segment, or two, is theirs; a third says that it is the canary.
pub(super) const MAX_FAILED_SEGMENTS: u64 = 2;
/// Each segment costs a histogram per arm and second.
pub(super) const MAX_SEGMENTS: u64 = 64;
/// Stepping up while half of baseline is down would leave nowhere to go back to.
pub(super) const BASELINE_MIN_HEALTHY: f64 = 0.5;

/// Pools share databases: after this long going back is the safe side.
pub(super) const OUTAGE_PATIENCE: Duration = Duration::from_secs(5 * MINUTE);
/// A longer gap says nothing about the windows before it.
pub(super) const MAX_GAP: Duration = Duration::from_secs(5 * MINUTE);
/// Time to look before the same rollout is started again.
pub(super) const COOLDOWN: Duration = Duration::from_secs(10 * MINUTE);
/// A canary that fails every second request is sick whatever the plan says.
const TRIPWIRE: &str = "error_rate > 50% for 0s over 1s";

/// The same as of plans that were recorded without it.
pub(super) const ALPHA: f64 = EvidenceParts::DEFAULT.alpha;
/// As above.
pub(super) const ODDS_MARGIN: f64 = EvidenceParts::DEFAULT.odds_margin;

/// An approval of this morning counts this afternoon, and not tomorrow.
pub(super) const APPROVAL_TTL: Duration = Duration::from_secs(12 * HOUR);
/// Long enough to look into it, short enough that nobody is forgotten.
pub(super) const ESCALATE_AFTER: Duration = Duration::from_secs(30 * MINUTE);
/// The client's: nearly two weeks, so that every day of the week is seen.
pub(super) const STABILIZATION: Duration = Duration::from_secs(13 * DAY);
/// Ten times what is usual, for so long that it is no burst: to investigate, not to roll back.
const STABILIZATION_HOLD: [&str; 1] = ["error_rate > 0.1% for 1h"];
/// Days, and a report every so many minutes: most faults show in the first two days.
const LEVELS: [(&str, u64, u64); 3] = [
    ("intensive", 2, 5),
    ("close", 4, 60),
    ("standard", 7, 24 * 60),
];

/// Caches fill and pools connect in the first minute.
pub(super) const WARMUP: Duration = Duration::from_secs(MINUTE);
/// Below this even a tenfold error rate may hide in a stage.
pub(super) const MIN_REQUESTS: u64 = 1000;
/// Fewer requests than this make no rate.
pub(super) const MIN_WINDOW_REQUESTS: u64 = 20;
/// A canary that answers 404 or 401 to everything is the commonest bad release, and no 5xx.
const HOLD: [&str; 1] = ["client_error_rate{delta} > 50% for 2m"];

/// Evidence guards a plan that names no trigger.
const ROLLBACK: [&str; 1] = ["regression(any)"];

/// What a person wants to hear of: what was decided, and what went wrong.
const NOTIFY_EVENTS: [&str; 2] = ["decisions", "alarms"];
/// The client's own rhythm of progress notices.
pub(super) const DIGEST: Duration = Duration::from_secs(5 * MINUTE);
/// Receivers answer within a second; one that takes longer is tried again.
pub(super) const NOTICE_TIMEOUT: Duration = Duration::from_secs(10);

/// What takes longer should be begun by a hook and verified by the next.
pub(super) const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// A program that failed is not run again unasked.
pub(super) const HOOK_RETRIES: u64 = 0;

/// Larger bodies are rare among what is worth comparing, and each copy is kept in memory.
pub(super) const MIRROR_BODY: u64 = 64 * KIB;
/// With bodies of the default size, some 12 MiB at most.
pub(super) const MIRROR_IN_FLIGHT: u64 = 64;
/// As long as an analyzer may compute.
pub(super) const MIRROR_TIMEOUT: Duration = Duration::from_secs(30);
/// As many as fit on a screen.
pub(super) const MIRROR_SAMPLES: u64 = 20;

/// `NOTIFY_EVENTS` as words.
pub(super) fn notify_events() -> Vec<EventWord> {
    NOTIFY_EVENTS
        .map(|word| EventWord(word.to_owned()))
        .to_vec()
}

/// `LEARNER` as sources.
pub(super) fn learner() -> Vec<LearnerSource> {
    LEARNER.map(source).to_vec()
}

/// `SEGMENT` as a source.
pub(super) fn segment() -> LearnerSource {
    source(SEGMENT)
}

/// `TRIPWIRE` as a condition.
pub(super) fn tripwire() -> OrFalse<Condition> {
    OrFalse::On(condition(TRIPWIRE))
}

/// `HOLD` as conditions.
pub(super) fn hold() -> Vec<Condition> {
    HOLD.map(condition).to_vec()
}

/// `ROLLBACK` as conditions.
pub(super) fn rollback() -> Vec<Condition> {
    ROLLBACK.map(condition).to_vec()
}

/// `STABILIZATION_HOLD` as conditions.
pub(super) fn stabilization_hold() -> Vec<Condition> {
    STABILIZATION_HOLD.map(condition).to_vec()
}

/// `LEVELS` as the plan has them.
pub(super) fn levels() -> Vec<Level> {
    let level = |(name, days, minutes)| Level {
        name: StageName::parse(name).expect("the names above are well formed"),
        lasts: Duration::from_secs(days * DAY),
        report: Duration::from_secs(minutes * MINUTE),
    };
    LEVELS.map(level).to_vec()
}

fn source(text: &str) -> LearnerSource {
    LearnerSource::parse(text).expect("the sources above are well formed")
}

fn condition(text: &str) -> Condition {
    Condition::parse(text).expect("the conditions above are well formed")
}

/// One in a hundred tells what is usual; what a client records is told always.
pub(super) fn traced() -> Weight {
    Weight::from_ppm(10_000).unwrap_or(Weight::ZERO)
}
/// The program's name.
pub(super) const FLEET_BUCKET: &str = "serin";
/// Servers of NATS that are restarted one by one are back before.
pub(super) const ISOLATED_AFTER: Duration = Duration::from_secs(60);
/// The program's name.
pub(super) const TRACED_SERVICE: &str = "serin";
/// What the protocol's own exporters wait.
pub(super) const TRACING_TIMEOUT: Duration = Duration::from_secs(10);
/// Some seconds of a thousand told requests a second: 4 MiB or so.
pub(super) const TRACING_QUEUE: u64 = 8_192;
