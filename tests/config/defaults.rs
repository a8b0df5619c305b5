use std::time::Duration;

use serin::config::{Config, parse};
use serin::rollout::condition::Condition;

const DOCUMENTED: &str = include_str!("../../proxy.toml");

/// The smallest file with the example's pools and stages.
const NECESSARY: &str = r#"
[pools.original]
endpoints = ["127.0.0.1:9101", "127.0.0.1:9102"]
[pools.ultra_fast]
endpoints = ["127.0.0.1:9201"]
[[routes]]
rollout = "analyzer"
[rollouts.analyzer]
baseline = "original"
canary = "ultra_fast"
stages = [{ name = "canary", weight = "1%", duration = "2h" }]
"#;

fn config(text: &str) -> Config {
    parse("proxy.toml", text, &|_| None).unwrap_or_else(|faults| {
        panic!(
            "{}",
            faults.iter().map(|f| format!("{f}\n")).collect::<String>()
        )
    })
}

#[test]
fn the_documented_file_is_valid_and_shows_the_defaults() {
    let documented = config(DOCUMENTED);
    let defaults = config(NECESSARY);
    assert_eq!(documented.server, defaults.server);
    assert_eq!(documented.admin, defaults.admin);
    assert_eq!(documented.state, defaults.state);
    assert_eq!(documented.tracing, defaults.tracing);
    assert_eq!(documented.pools, defaults.pools);
    assert_eq!(documented.routes, defaults.routes);
    let (shown, unsaid) = (
        &documented.rollouts["analyzer"],
        &defaults.rollouts["analyzer"],
    );
    assert_eq!(shown.learner, unsaid.learner);
    assert_eq!(shown.segment, unsaid.segment);
    assert_eq!(
        (shown.failover, shown.failover_after),
        (unsaid.failover, unsaid.failover_after)
    );
    assert_eq!(
        (shown.weight_at_rest, &shown.error_statuses),
        (unsaid.weight_at_rest, &unsaid.error_statuses)
    );
    assert_eq!(
        (shown.max_segments, shown.stream_grace),
        (unsaid.max_segments, unsaid.stream_grace)
    );
    assert_eq!(
        (shown.plan.holdout, &shown.plan.version),
        (unsaid.plan.holdout, &unsaid.plan.version)
    );
    assert_eq!(shown.plan.gate, unsaid.plan.gate);
    assert_eq!(unsaid.plan.identity.salt, "analyzer");
    assert_eq!(shown.plan.identity.salt, "analyzer-v3");
    let (shown, unsaid) = (&shown.plan.stages[0], &unsaid.plan.stages[0]);
    assert_eq!(
        (shown.warmup, shown.max_extension),
        (unsaid.warmup, unsaid.max_extension)
    );
    assert_eq!(
        (shown.min_requests, shown.min_window_requests),
        (unsaid.min_requests, unsaid.min_window_requests)
    );
    assert_eq!(
        (&shown.on_success, shown.on_failure, shown.on_rollback),
        (&unsaid.on_success, unsaid.on_failure, unsaid.on_rollback)
    );
    assert_eq!(shown.schedule, unsaid.schedule);
    assert!(unsaid.checkpoints.is_empty() && unsaid.advance.is_empty());
    let hold: Vec<String> = unsaid.hold.iter().map(ToString::to_string).collect();
    assert_eq!(hold, ["client_error_rate{delta} > 50% for 2m"]);
    let rollback: Vec<String> = unsaid.rollback.iter().map(ToString::to_string).collect();
    assert_eq!(rollback, ["regression(any)"]);
}

/// Written from the contract, not from the constants.
#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config(NECESSARY);
    let s = Duration::from_secs;
    let limits = &config.server.limits;
    assert_eq!(
        (
            limits.head_bytes,
            limits.headers,
            limits.target_bytes,
            limits.body_bytes
        ),
        (65_536, 100, 8_192, 0)
    );
    let t = &config.server.timeouts;
    assert_eq!(
        [
            t.first_byte,
            t.head,
            t.body_idle,
            t.write_idle,
            t.keep_alive
        ],
        [s(10), s(10), s(30), s(30), s(75)]
    );
    assert_eq!(
        [t.stream_idle, t.drain_delay, t.idle_grace, t.drain],
        [s(600), s(0), s(5), s(25)]
    );
    assert_eq!(
        config.server.listen,
        ["127.0.0.1:8080".parse().expect("an address")]
    );
    assert!(config.server.workers >= 1);
    assert_eq!(
        config.admin.listen,
        "127.0.0.1:9901".parse().expect("an address")
    );
    assert_eq!(
        (
            config.state.path.to_str(),
            config.state.deployment_logs.to_str()
        ),
        (Some("state/serin.db"), Some("deployment-logs"))
    );
    assert_eq!(config.state.retention, s(30 * 86_400));
    let pool = &config.pools["original"];
    let health = pool.health.as_ref().expect("on by default");
    assert_eq!(
        (health.path.as_str(), health.interval, health.timeout),
        ("/health", s(5), s(1))
    );
    assert_eq!((health.unhealthy_after, health.healthy_after), (3, 2));
    let t = &pool.timeouts;
    assert_eq!(
        [t.connect, t.answer_head, t.body_idle, t.idle, t.request],
        [s(1), s(30), s(30), s(4), s(0)]
    );
    assert_eq!(
        (
            pool.retries.attempts,
            pool.retries.per_try,
            pool.retries.budget
        ),
        (1, s(10), 0.2)
    );
    let rollout = &config.rollouts["analyzer"];
    assert_eq!(
        rollout.plan.identity.learner,
        [
            "header:x-learner-id",
            "cookie:learner_id",
            "query:learner_id",
            "client_ip"
        ]
    );
    assert_eq!(
        rollout.plan.identity.segment.as_deref(),
        Some("header:x-learner-segment")
    );
    let failover = rollout.failover;
    assert!(failover.connect && failover.reset && failover.timeout && failover.status_5xx);
    assert_eq!(
        (
            rollout.failover_after,
            rollout.stream_grace,
            rollout.max_segments
        ),
        (None, s(30), 64)
    );
    let gate = &rollout.plan.gate;
    assert_eq!(
        [gate.outage_patience, gate.max_gap, gate.cooldown],
        [s(300), s(300), s(600)]
    );
    assert_eq!((gate.baseline_min_healthy, gate.speed), (0.5, 1.0));
    assert_eq!(
        (gate.min_segment_requests, gate.max_failed_segments),
        (100, 2)
    );
    assert_eq!(
        gate.tripwire,
        Condition::parse("error_rate > 50% for 0s over 1s").ok()
    );
    let stage = &rollout.plan.stages[0];
    assert_eq!(
        (
            stage.warmup,
            stage.min_requests,
            stage.min_window_requests,
            stage.max_extension
        ),
        (s(60), 1000, 20, s(7200))
    );
}

#[test]
fn what_is_switched_off_is_off() {
    let text = NECESSARY.replace(
        "canary = \"ultra_fast\"",
        "canary = \"ultra_fast\"\nsegment = false\ngate.tripwire = false\nfailover = []",
    ) + "[pools.third]\nendpoints = [\"h:1\"]\nhealth = false\n";
    let config = config(&text);
    assert_eq!(config.pools["third"].health, None);
    let rollout = &config.rollouts["analyzer"];
    assert_eq!(
        (&rollout.segment, &rollout.plan.gate.tripwire),
        (&None, &None)
    );
    assert_eq!(rollout.failover, serin::config::Failover::default());
}
