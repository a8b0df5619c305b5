//! Which families the data path's counters are published as.
//!
//! Owns their names, labels and help: dashboards and alert rules depend on them. Counters run from
//! the start of the process and stand as of the last drain.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::access_log::AccessLog;
use super::prometheus::{Exposition, Label};
use super::totals::{RolloutTotals, Totals};
use super::{Attempt, CLASSES, Tally, class_index, class_label};
use crate::rollout::name::Arm;

/// The counters of single things, with names and help.
const TALLIES: [(Tally, &str, &str); 15] = [
    (
        Tally::ConnectionAccepted,
        "serin_connections_accepted_total",
        "Connections accepted from learners.",
    ),
    (
        Tally::ConnectionClosed,
        "serin_connections_closed_total",
        "Connections of learners that ended.",
    ),
    (
        Tally::ConnectionEvicted,
        "serin_connections_evicted_total",
        "Idle connections closed because max_connections was reached.",
    ),
    (
        Tally::ConnectionRested,
        "serin_connections_rested_total",
        "Times that an idle connection of HTTP/1 gave back what only a request needs.",
    ),
    (
        Tally::ConnectionHanded,
        "serin_connections_handed_total",
        "New connections handed to another worker, which had fewer.",
    ),
    (
        Tally::AcceptPaused,
        "serin_accept_paused_total",
        "Times that accepting paused because descriptors or memory ran out.",
    ),
    (
        Tally::StaleConnection,
        "serin_stale_connections_total",
        "Reused upstream connections found closed before the first byte of the answer.",
    ),
    (
        Tally::InformationalDropped,
        "serin_informational_dropped_total",
        "Interim answers (1xx) of upstreams that could not be passed on.",
    ),
    (
        Tally::FrameFlood,
        "serin_frame_floods_total",
        "Connections ended because they sent more control frames of HTTP/2 than any client needs.",
    ),
    (
        Tally::StreamStalled,
        "serin_streams_stalled_total",
        "Streams of HTTP/2 reset because their client did not read for write_idle.",
    ),
    (
        Tally::HandshakeFailed,
        "serin_tls_handshakes_failed_total",
        "TLS handshakes of learners that failed or did not end in time.",
    ),
    (
        Tally::RetryRefused,
        "serin_retries_refused_total",
        "Requests not sent again because their pool's budget for retries was used up.",
    ),
    (
        Tally::StreamIdle,
        "serin_streams_idle_total",
        "Streams and tunnels ended because nothing moved on them for stream_idle.",
    ),
    (
        Tally::StreamRetreated,
        "serin_streams_retreated_total",
        "Streams and tunnels ended stream_grace after their arm was retreated from.",
    ),
    (
        Tally::UpstreamTlsFailed,
        "serin_upstream_tls_failed_total",
        "Attempts that ended because the TLS handshake with the endpoint failed.",
    ),
];

/// Why a connection that was to begin with a PROXY header was refused.
const PROXY_HEADERS: [(Tally, &str); 4] = [
    (Tally::ProxyHeaderMissing, "missing"),
    (Tally::ProxyHeaderMalformed, "malformed"),
    (Tally::ProxyHeaderIncomplete, "incomplete"),
    (Tally::ProxyHeaderLate, "timeout"),
];

pub(super) fn expose(totals: &Totals, out: &mut Exposition) {
    pools(totals, out);
    tunnels(totals, out);
    rollouts(totals, out);
    answers(totals, out);
    for (tally, name, help) in TALLIES {
        out.counter(name, help).count(&[], totals.tally(tally));
    }
    let mut refused = out.counter(
        "serin_proxy_headers_refused_total",
        "Connections refused because they did not begin with a whole PROXY header, by reason.",
    );
    for (tally, reason) in PROXY_HEADERS {
        refused.count(&[("reason", reason)], totals.tally(tally));
    }
    out.gauge(
        "serin_connections_open",
        "Connections of learners open now.",
    )
    .count(&[], totals.connections_open());
}

pub(super) fn workers(open: &[AtomicUsize], out: &mut Exposition) {
    let mut gauge = out.gauge(
        "serin_worker_connections_open",
        "Connections of learners open now, by worker.",
    );
    for (worker, open) in open.iter().enumerate() {
        let count = u64::try_from(open.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        gauge.count(&[("worker", &worker.to_string())], count);
    }
}

pub(super) fn access_log(log: &AccessLog, out: &mut Exposition) {
    out.counter(
        "serin_access_log_dropped_total",
        "Lines of the access log that were dropped because standard output was read too slowly.",
    )
    .count(&[], log.dropped());
}

fn pools(totals: &Totals, out: &mut Exposition) {
    let mut requests = out.counter(
        "serin_pool_requests_total",
        "Attempts on a pool's endpoints, by kind of attempt and outcome.",
    );
    for pool in &totals.pools {
        for attempt in Attempt::ALL {
            for class in CLASSES {
                let labels: [Label<'_>; 3] = [
                    ("pool", pool.name.as_str()),
                    ("attempt", attempt.as_str()),
                    ("outcome", class_label(class)),
                ];
                let classes = &pool.counts.attempts[attempt.index()];
                requests.count(&labels, classes[class_index(class)]);
            }
        }
    }
    let mut latency = out.histogram(
        "serin_pool_latency_seconds",
        "Time waited on a pool's endpoints, per attempt.",
    );
    for pool in &totals.pools {
        let seen = &pool.counts.latency;
        let labels = [("pool", pool.name.as_str())];
        latency.sample(&labels, &seen.cumulative(), seen.sum_s());
    }
}

fn tunnels(totals: &Totals, out: &mut Exposition) {
    let by_pool = || {
        let pools = totals.pools.iter();
        pools.map(|pool| (("pool", pool.name.as_str()), &pool.counts.tunnels))
    };
    let mut opened = out.counter(
        "serin_pool_tunnels_total",
        "Tunnels (WebSocket and other upgrades) opened to a pool's endpoints.",
    );
    for (pool, tunnels) in by_pool() {
        opened.count(&[pool], tunnels.opened);
    }
    let mut open = out.gauge(
        "serin_pool_tunnels_open",
        "Tunnels to a pool's endpoints open now.",
    );
    for (pool, tunnels) in by_pool() {
        open.count(&[pool], tunnels.open());
    }
    let mut bytes = out.counter(
        "serin_pool_tunnel_bytes_total",
        "Bytes that tunnels carried: in from learners, out to them.",
    );
    for (pool, tunnels) in by_pool() {
        bytes.count(&[pool, ("direction", "in")], tunnels.up);
        bytes.count(&[pool, ("direction", "out")], tunnels.down);
    }
}

fn rollouts(totals: &Totals, out: &mut Exposition) {
    let mut requests = out.counter(
        "serin_rollout_requests_total",
        "Learners' requests by their own arm and its outcome, one each: what the gate reads.",
    );
    for (rollout, arm) in arms(totals) {
        for class in CLASSES {
            let [name, side] = arm_labels(rollout, arm);
            let labels = [name, side, ("outcome", class_label(class))];
            requests.count(
                &labels,
                rollout.arms[arm.index()].classes[class_index(class)],
            );
        }
    }
    let mut latency = out.histogram(
        "serin_rollout_latency_seconds",
        "Time waited on an arm's endpoints, per learner's request.",
    );
    for (rollout, arm) in arms(totals) {
        let seen = &rollout.arms[arm.index()].latency;
        let labels = arm_labels(rollout, arm);
        latency.sample(&labels, &seen.cumulative(), seen.sum_s());
    }
    let mut learners = out.gauge(
        "serin_rollout_learners",
        "Distinct learners sent to an arm since the process began, estimated within 1 %.",
    );
    for (rollout, arm) in arms(totals) {
        let labels = arm_labels(rollout, arm);
        learners.count(&labels, rollout.learners[arm.index()].estimate());
    }
}

fn answers(totals: &Totals, out: &mut Exposition) {
    let mut answers = out.counter(
        "serin_answers_total",
        "Answers that learners were given, by class of status; reason is set where serin made the answer itself.",
    );
    for (kind, count) in &totals.answers.0 {
        let class = format!("{}xx", kind.class);
        let labels = [("status", &*class), ("reason", kind.reason.unwrap_or(""))];
        answers.count(&labels, *count);
    }
}

fn arms(totals: &Totals) -> impl Iterator<Item = (&RolloutTotals, Arm)> {
    let rollouts = totals.rollouts.iter();
    rollouts.flat_map(|rollout| Arm::ALL.map(|arm| (rollout, arm)))
}

fn arm_labels(rollout: &RolloutTotals, arm: Arm) -> [Label<'_>; 2] {
    [("rollout", rollout.name.as_str()), ("arm", arm.as_str())]
}
