//! The settings of a configuration in words, part by part: what `diff` compares. Compares nothing itself.

use std::time::Duration;

use crate::config::amount::format_size;
use crate::config::{
    AccessLog, Admin, Collector, Config, Dns, Ejection, Endpoint, Fleet, Health, HealthKind,
    LearnerSource, Mirror, Pool, Rollout, Route, Server, Signal, Target, Tracing,
};
use crate::proxy_protocol::Version;
use crate::rollout::time::format_duration;

/// Settings in words, in the order of the file. Two are equal if and only if their words are.
pub(super) type Settings = Vec<(&'static str, String)>;

pub(super) fn tracing(config: &Config) -> Settings {
    let Tracing { share, parents, .. } = &config.tracing;
    vec![
        ("share", share.to_string()),
        ("parents", format!("{parents:?}").to_lowercase()),
    ]
}

pub(super) fn rehearsal(config: &Config) -> Settings {
    vec![("enabled", config.rehearsals.to_string())]
}

/// What sockets, threads and files were made from at start.
pub(super) fn fixed(config: &Config) -> Settings {
    vec![
        ("server.listen", format!("{:?}", config.server.listen)),
        ("server.workers", config.server.workers.to_string()),
        (
            "server.log.level",
            format!("{:?}", config.server.log.level).to_lowercase(),
        ),
        (
            "server.log.format",
            format!("{:?}", config.server.log.format).to_lowercase(),
        ),
        ("admin.listen", config.admin.listen.to_string()),
        ("state.path", format!("{:?}", config.state.path)),
        (
            "state.deployment_logs",
            format!("{:?}", config.state.deployment_logs),
        ),
        (
            "state.record_inputs",
            config.state.record_inputs.to_string(),
        ),
        (
            "tracing.endpoint",
            collector(config, |to| to.endpoint.to_string()),
        ),
        (
            "tracing.service",
            collector(config, |to| to.service.clone()),
        ),
        (
            "tracing.timeout",
            collector(config, |to| format_duration(to.timeout)),
        ),
        (
            "tracing.queue",
            collector(config, |to| to.queue.to_string()),
        ),
        (
            "fleet.servers",
            fleet(config, |fleet| format!("{:?}", fleet.servers)),
        ),
        ("fleet.name", fleet(config, |fleet| fleet.name.clone())),
        (
            "fleet.region",
            fleet(config, |fleet| format!("{:?}", fleet.region)),
        ),
        (
            "fleet.aggregate",
            fleet(config, |fleet| fleet.aggregate.as_str().to_owned()),
        ),
        ("fleet.bucket", fleet(config, |fleet| fleet.bucket.clone())),
        (
            "fleet.on_isolated",
            fleet(config, |fleet| fleet.on_isolated.as_str().to_owned()),
        ),
        (
            "fleet.isolated_after",
            fleet(config, |fleet| format_duration(fleet.isolated_after)),
        ),
    ]
}

fn fleet(config: &Config, word: impl Fn(&Fleet) -> String) -> String {
    config
        .fleet
        .as_ref()
        .map_or_else(|| "none".to_owned(), word)
}

fn collector(config: &Config, word: impl Fn(&Collector) -> String) -> String {
    let collector = config.tracing.collector.as_ref();
    collector.map_or_else(|| "none".to_owned(), word)
}

pub(super) fn server(server: &Server) -> Settings {
    let (limits, timeouts, log) = (&server.limits, &server.timeouts, &server.log);
    vec![
        ("server.trusted", format!("{:?}", server.trusted)),
        ("server.max_connections", server.max_connections.to_string()),
        ("server.overload", server.overload.to_string()),
        ("server.limits.head", format_size(limits.head_bytes as u64)),
        ("server.limits.headers", limits.headers.to_string()),
        (
            "server.limits.target",
            format_size(limits.target_bytes as u64),
        ),
        ("server.limits.body", format_size(limits.body_bytes)),
        (
            "server.timeouts.first_byte",
            format_duration(timeouts.first_byte),
        ),
        ("server.timeouts.head", format_duration(timeouts.head)),
        (
            "server.timeouts.body_idle",
            format_duration(timeouts.body_idle),
        ),
        (
            "server.timeouts.write_idle",
            format_duration(timeouts.write_idle),
        ),
        (
            "server.timeouts.keep_alive",
            format_duration(timeouts.keep_alive),
        ),
        (
            "server.timeouts.stream_idle",
            format_duration(timeouts.stream_idle),
        ),
        (
            "server.timeouts.drain_delay",
            format_duration(timeouts.drain_delay),
        ),
        (
            "server.timeouts.idle_grace",
            format_duration(timeouts.idle_grace),
        ),
        ("server.timeouts.drain", format_duration(timeouts.drain)),
        ("server.log.access", access(log.access)),
    ]
}

fn access(access: AccessLog) -> String {
    match access {
        AccessLog::Off => "off".to_owned(),
        AccessLog::Errors => "errors".to_owned(),
        AccessLog::Share(share) => share.to_string(),
        AccessLog::All => "all".to_owned(),
    }
}

pub(super) fn admin(admin: &Admin) -> Settings {
    vec![
        ("admin.hosts", format!("{:?}", admin.hosts)),
        ("admin.open_metrics", admin.open_metrics.to_string()),
    ]
}

pub(super) fn state(config: &Config) -> Settings {
    vec![("state.retention", format_duration(config.state.retention))]
}

pub(super) fn pool(pool: &Pool) -> Settings {
    let (timeouts, retries) = (&pool.timeouts, &pool.retries);
    let health = pool.health.as_ref().map_or_else(
        || "false".to_owned(),
        |health| {
            format!(
                "{} every {}, timeout {}, unhealthy after {}, healthy after {}",
                asked(health),
                format_duration(health.interval),
                format_duration(health.timeout),
                health.unhealthy_after,
                health.healthy_after,
            )
        },
    );
    vec![
        (
            "dns",
            pool.dns.as_ref().map_or_else(String::new, Dns::to_string),
        ),
        ("balance", pool.balance.as_str().to_owned()),
        ("zone", pool.zone.clone().unwrap_or_default()),
        ("protocol", pool.transport.protocol.as_str().to_owned()),
        (
            "proxy_protocol",
            pool.transport
                .proxy_protocol
                .map_or("false", Version::as_str)
                .to_owned(),
        ),
        ("tls.server_name", server_name(pool)),
        ("health", health),
        ("overload", pool.overload.to_string()),
        ("slow_start", format_duration(pool.slow_start)),
        (
            "ejection",
            pool.ejection
                .as_ref()
                .map_or_else(|| "false".to_owned(), Ejection::to_string),
        ),
        ("timeouts.connect", format_duration(timeouts.connect)),
        (
            "timeouts.answer_head",
            format_duration(timeouts.answer_head),
        ),
        ("timeouts.body_idle", format_duration(timeouts.body_idle)),
        ("timeouts.idle", format_duration(timeouts.idle)),
        ("timeouts.request", format_duration(timeouts.request)),
        ("retries.attempts", retries.attempts.to_string()),
        ("retries.per_try", format_duration(retries.per_try)),
        ("retries.budget", retries.budget.to_string()),
    ]
}

pub(super) fn endpoint(endpoint: &Endpoint) -> Settings {
    vec![
        ("weight", endpoint.weight.to_string()),
        ("zone", endpoint.zone.clone().unwrap_or_default()),
    ]
}

fn asked(health: &Health) -> String {
    match health.kind {
        HealthKind::Http => health.path.clone(),
        HealthKind::Tcp => "a connection".to_owned(),
        HealthKind::Grpc => format!("grpc {:?}", health.service),
    }
}

fn server_name(pool: &Pool) -> String {
    let tls = pool.transport.tls.as_ref();
    let name = tls.and_then(|tls| tls.server_name.as_ref());
    name.map_or_else(
        || "the endpoint's host".to_owned(),
        |name| name.to_str().into_owned(),
    )
}

pub(super) fn route(route: &Route) -> Settings {
    let target = match &route.target {
        Target::Pool(pool) => format!("pool {pool}"),
        Target::Rollout(rollout) => format!("rollout {rollout}"),
    };
    vec![
        ("target", target),
        ("idempotent", route.idempotent.to_string()),
    ]
}

fn signals(signals: &[Signal]) -> String {
    let said: Vec<String> = signals.iter().map(Signal::to_string).collect();
    format!("[{}]", said.join(", "))
}

/// What is not part of the plan, and so applies at once.
pub(super) fn rollout(rollout: &Rollout) -> Settings {
    let learner: Vec<String> = rollout
        .learner
        .iter()
        .map(LearnerSource::to_string)
        .collect();
    let segment = rollout.segment.as_ref();
    let after =
        |after: Option<Duration>| after.map_or_else(|| "by the plan".to_owned(), format_duration);
    vec![
        ("learner", learner.join(", ")),
        (
            "segment",
            segment.map_or_else(|| "false".to_owned(), LearnerSource::to_string),
        ),
        ("failover", format!("{:?}", rollout.failover)),
        ("failover_after", after(rollout.failover_after)),
        ("weight_at_rest", rollout.weight_at_rest.to_string()),
        ("error_statuses", format!("{:?}", rollout.error_statuses)),
        ("max_segments", rollout.max_segments.to_string()),
        ("stream_grace", format_duration(rollout.stream_grace)),
        ("signals", signals(&rollout.signals)),
        (
            "mirror",
            rollout
                .mirror
                .as_ref()
                .map_or_else(|| "none".to_owned(), Mirror::to_string),
        ),
    ]
}
