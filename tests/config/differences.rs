use serin::config::{Area, Config, diff, parse, pinned};
use serin::rollout::name::RolloutName;

const FILE: &str = r#"
[pools.original]
endpoints = ["127.0.0.1:9101"]
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
    parse("proxy.toml", text, &|_| None).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn replaced(from: &str, to: &str) -> Config {
    assert!(FILE.contains(from));
    config(&FILE.replace(from, to))
}

#[test]
fn a_default_written_out_is_no_change() {
    let spelled = config(&format!(
        "server.timeouts.head = \"10s\"\nadmin.open_metrics = false\n{FILE}"
    ));
    assert!(diff(&config(FILE), &spelled).is_empty());
}

#[test]
fn changes_are_told_in_words() {
    let check = |new: Config, area: Area, what: &str| {
        let diff = diff(&config(FILE), &new);
        let told: Vec<(Area, &str)> = diff
            .changes
            .iter()
            .map(|change| (change.area, change.what.as_str()))
            .collect();
        assert_eq!(told, [(area, what)]);
        assert!(diff.restart.is_empty() && diff.plans.is_empty(), "{diff:?}");
    };
    let top = |text: &str| config(&format!("{text}\n{FILE}"));
    check(
        top("server.limits.body = \"1MiB\""),
        Area::Server,
        "server.limits.body: 0 -> 1MiB",
    );
    check(
        top("server.timeouts.drain = \"1m\""),
        Area::Server,
        "server.timeouts.drain: 25s -> 1m",
    );
    check(
        top("admin.open_metrics = true"),
        Area::Admin,
        "admin.open_metrics: false -> true",
    );
    check(
        top("state.retention = \"7d\""),
        Area::State,
        "state.retention: 30d -> 7d",
    );
    check(
        top("pools.third.endpoints = [\"h:1\"]"),
        Area::Pools,
        "pool third added",
    );
    check(
        replaced(
            "[\"127.0.0.1:9101\"]",
            "[{ address = \"127.0.0.1:9101\", weight = 2 }]",
        ),
        Area::Pools,
        "endpoint 127.0.0.1:9101 of pool original: weight: 1 -> 2",
    );
    check(
        replaced("[[routes]]\nrollout = \"analyzer\"\n", ""),
        Area::Routes,
        "route any host / removed",
    );
    check(
        replaced("rollout = \"analyzer\"", "pool = \"original\""),
        Area::Routes,
        "route any host / target: rollout analyzer -> pool original",
    );
    check(
        replaced(
            "\"127.0.0.1:9101\"",
            "\"127.0.0.1:9101\", \"127.0.0.1:9102\"",
        ),
        Area::Pools,
        "endpoint 127.0.0.1:9102 added to pool original",
    );
    check(
        replaced("[[routes]]", "balance = \"p2c\"\n[[routes]]"),
        Area::Pools,
        "pools.ultra_fast.balance: round_robin -> p2c",
    );
    let pool = |keys: &str| replaced("[[routes]]", &format!("{keys}\n[[routes]]"));
    check(
        pool("protocol = \"h2c\""),
        Area::Pools,
        "pools.ultra_fast.protocol: http1 -> h2c",
    );
    check(
        pool("proxy_protocol = \"v2\""),
        Area::Pools,
        "pools.ultra_fast.proxy_protocol: false -> v2",
    );
    check(
        top("server.listen = [{ address = \"127.0.0.1:8080\", proxy_protocol = true }]"),
        Area::Server,
        "PROXY headers from now on at listener 127.0.0.1:8080",
    );
    check(
        pool("tls = {}"),
        Area::Pools,
        "TLS from now on to pool ultra_fast",
    );
    check(
        pool("health = { kind = \"tcp\" }"),
        Area::Pools,
        "pools.ultra_fast.health: /health every 5s, timeout 1s, unhealthy after 3, healthy after 2 -> a connection \
         every 5s, timeout 1s, unhealthy after 3, healthy after 2",
    );
    check(
        replaced("canary = ", "stream_grace = \"5s\"\ncanary = "),
        Area::Rollouts,
        "rollouts.analyzer.stream_grace: 30s -> 5s",
    );
    check(
        replaced("canary = ", "mirror = { share = \"1%\" }\ncanary = "),
        Area::Rollouts,
        "rollouts.analyzer.mirror: none -> 1% of GET, HEAD, answers thrown away; bodies up to 64KiB, 64 in flight, \
         timeout 30s",
    );
    check(
        replaced(
            "canary = ",
            "mirror = { share = \"1%\", compare = { headers = [], json = { ignore = [\"/*/id\"] } } }\ncanary = ",
        ),
        Area::Rollouts,
        "rollouts.analyzer.mirror: none -> 1% of GET, HEAD, comparing status, body without /*/id, 20 kept; bodies up \
         to 64KiB, 64 in flight, timeout 30s",
    );
}

#[test]
fn what_needs_a_restart_and_what_waits_for_a_start_are_told_apart() {
    let check = |new: Config, restart: &[&str], plans: &[&str]| {
        let diff = diff(&config(FILE), &new);
        let plans_found: Vec<&str> = diff.plans.iter().map(RolloutName::as_str).collect();
        assert_eq!(
            (diff.restart.as_slice(), plans_found.as_slice()),
            (
                restart
                    .iter()
                    .map(|s| (*s).to_owned())
                    .collect::<Vec<_>>()
                    .as_slice(),
                plans
            )
        );
        assert!(diff.changes.is_empty(), "{diff:?}");
    };
    let top = |text: &str| config(&format!("{text}\n{FILE}"));
    check(
        top("server.listen = [\"127.0.0.1:81\"]"),
        &["server.listen: [127.0.0.1:8080] -> [127.0.0.1:81]"],
        &[],
    );
    check(
        top("admin.listen = \"127.0.0.1:82\""),
        &["admin.listen: 127.0.0.1:9901 -> 127.0.0.1:82"],
        &[],
    );
    check(
        top("state.path = \"other.db\""),
        &["state.path: \"state/serin.db\" -> \"other.db\""],
        &[],
    );
    check(replaced("\"2h\"", "\"3h\""), &[], &["analyzer"]);
    check(
        replaced("canary = ", "salt = \"x\"\ncanary = "),
        &[],
        &["analyzer"],
    );
}

#[test]
fn a_token_is_never_shown() {
    let token = |digit: &str| {
        config(&format!(
            "admin.tokens = [{{ name = \"ci\", sha256 = \"{}\" }}]\n{FILE}",
            digit.repeat(64)
        ))
    };
    let told = format!("{:?}", diff(&token("a"), &token("b")));
    assert!(
        told.contains("token ci changed") && !told.contains("aaaa") && !told.contains("170"),
        "{told}"
    );
}

#[test]
fn a_running_rollout_keeps_its_learners_and_its_pools() {
    let old = config(FILE);
    let name = RolloutName::parse("analyzer").expect("a name");
    let running = &old.rollouts["analyzer"].plan.identity;
    let check = |new: Config, keys: &[&str]| {
        let faults = pinned("proxy.toml", &name, running, &new);
        let found: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(found, keys);
        assert!(faults.iter().all(|fault| {
            fault
                .message
                .contains("start with the old file, `serin abort`, then change")
        }));
    };
    check(old.clone(), &[]);
    check(replaced("\"2h\"", "\"3h\""), &[]);
    check(
        replaced("canary = ", "salt = \"x\"\ncanary = "),
        &["rollouts.analyzer.salt"],
    );
    check(
        replaced("canary = ", "segment = false\ncanary = "),
        &["rollouts.analyzer.segment"],
    );
    check(
        replaced("canary = ", "learner = [\"client_ip\"]\ncanary = "),
        &["rollouts.analyzer.learner"],
    );
    check(
        config(&FILE.replace("ultra_fast", "faster")),
        &["pools.ultra_fast", "rollouts.analyzer.canary"],
    );
    let swapped = FILE
        .replace("baseline = \"original\"", "baseline = \"ultra_fast\"")
        .replace("canary = \"ultra_fast\"", "canary = \"original\"");
    check(
        config(&swapped),
        &["rollouts.analyzer.baseline", "rollouts.analyzer.canary"],
    );
    check(
        config("pools.original.endpoints = [\"h:1\"]"),
        &["pools.ultra_fast", "rollouts.analyzer"],
    );
}

/// One row for each key whose value is not part of a plan.
#[test]
fn no_setting_changes_unseen() {
    for (key, value) in [
        ("server.trusted", "[\"10.0.0.0/8\"]"),
        ("server.max_connections", "5"),
        ("server.limits.head", "1"),
        ("server.limits.headers", "1"),
        ("server.limits.target", "1"),
        ("server.limits.body", "1"),
        ("server.timeouts.first_byte", "\"1ms\""),
        ("server.timeouts.head", "\"1ms\""),
        ("server.timeouts.body_idle", "\"1ms\""),
        ("server.timeouts.write_idle", "\"1ms\""),
        ("server.timeouts.keep_alive", "\"1ms\""),
        ("server.timeouts.stream_idle", "\"1ms\""),
        ("server.timeouts.drain_delay", "\"1ms\""),
        ("server.timeouts.idle_grace", "\"1ms\""),
        ("server.timeouts.drain", "\"1ms\""),
        ("server.log.level", "\"debug\""),
        ("server.log.format", "\"json\""),
        ("server.listen", "[\"127.0.0.1:1\"]"),
        ("server.workers", "1000"),
        ("admin.listen", "\"127.0.0.1:1\""),
        ("admin.hosts", "[\"example.org\"]"),
        ("admin.open_metrics", "true"),
        ("state.path", "\"x\""),
        ("state.deployment_logs", "\"x\""),
        ("state.retention", "\"1d\""),
        ("rehearsal.enabled", "true"),
        ("pools.spare.balance", "\"p2c\""),
        ("pools.spare.health", "false"),
        ("pools.spare.health.path", "\"/x\""),
        ("pools.spare.health.interval", "\"1ms\""),
        ("pools.spare.health.timeout", "\"1ms\""),
        ("pools.spare.health.unhealthy_after", "9"),
        ("pools.spare.health.healthy_after", "9"),
        ("pools.spare.timeouts.connect", "\"1ms\""),
        ("pools.spare.timeouts.answer_head", "\"1ms\""),
        ("pools.spare.timeouts.body_idle", "\"1ms\""),
        ("pools.spare.timeouts.idle", "\"1ms\""),
        ("pools.spare.timeouts.request", "\"1ms\""),
        ("pools.spare.retries.attempts", "3"),
        ("pools.spare.retries.per_try", "\"1ms\""),
        ("pools.spare.retries.budget", "\"1%\""),
        ("pools.spare.request_headers", "{ x-a = \"b\" }"),
        ("rollouts.second.failover", "[]"),
        ("rollouts.second.failover_after", "\"1s\""),
        ("rollouts.second.weight_at_rest", "\"1%\""),
        ("rollouts.second.error_statuses", "[404]"),
        ("rollouts.second.max_segments", "1"),
        ("rollouts.second.stream_grace", "\"1s\""),
    ] {
        let more = "pools.spare.endpoints = [\"h:1\"]\n[rollouts.second]\nbaseline = \"original\"\ncanary = \"spare\"\n\
                    stages = [{ name = \"canary\", weight = \"1%\", duration = \"2h\" }]\n";
        let tail = FILE
            .replace("[pools.original]\n", "pools.original.")
            .replace("[pools.ultra_fast]\n", "pools.ultra_fast.");
        let (rollouts, top) = (
            tail.find("[[routes]]").expect("routes"),
            more.find("[rollouts").expect("a rollout"),
        );
        let whole = |line: &str| {
            let (line, own) = match line.strip_prefix("rollouts.second.") {
                Some(own) => ("", own),
                None => (line, ""),
            };
            format!(
                "{line}\n{}{}{}\n{own}\n{}",
                &more[..top],
                &tail[..rollouts],
                &more[top..],
                &tail[rollouts..]
            )
        };
        let diff = diff(
            &config(&whole("")),
            &config(&whole(&format!("{key} = {value}"))),
        );
        let told: Vec<&String> = diff
            .changes
            .iter()
            .map(|change| &change.what)
            .chain(&diff.restart)
            .collect();
        let setting = key
            .split_once(".health.")
            .map_or_else(|| key.to_owned(), |(pool, _)| format!("{pool}.health"));
        assert!(
            told.len() == 1 && told[0].starts_with(&setting),
            "{key}: {diff:?}"
        );
        // Told apart at once, and for evidence from the next start on.
        let waits = key.ends_with("max_segments");
        assert_eq!(diff.plans.is_empty(), !waits, "{key}: {diff:?}");
    }
}
