use std::path::Path;
use std::process::Command;

use serin::config::{Config, Fault, How, parse_with};

const FILE: &str = "[server]\nworkers = 1\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\n[pools.original]\nendpoints = [\"${HOST:-h}:1\"]\n";

fn good(environment: &[(&str, &str)]) -> Config {
    parse_with("proxy.toml", FILE, environment).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn faults(environment: &[(&str, &str)]) -> Vec<Fault> {
    parse_with("proxy.toml", FILE, environment)
        .err()
        .unwrap_or_default()
}

fn pool(config: &Config, name: &str) -> Vec<String> {
    let mut pools = config.pools.iter();
    let found = pools.find(|(pool, _)| pool.as_str() == name);
    let (_, pool) = found.unwrap_or_else(|| panic!("no pool {name}"));
    pool.addresses().collect()
}

#[test]
fn a_variable_stands_for_a_value_of_the_file() {
    let config = good(&[
        ("SERIN__SERVER__WORKERS", "3"),
        ("SERIN__SERVER__TIMEOUTS__DRAIN", "7s"),
        ("SERIN__SERVER__LIMITS__HEAD", "8KiB"),
        ("SERIN__SERVER__LOG__ACCESS", "0.01"),
        ("SERIN__ADMIN__OPEN_METRICS", "true"),
        ("SERIN__ADMIN__LISTEN", "[::1]:9901"),
        ("SERIN__TRACING__SHARE", "0.5"),
        ("SERIN_ADMIN", "http://elsewhere"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(config.server.workers, 3);
    assert_eq!(config.server.timeouts.drain.as_secs(), 7);
    assert_eq!(config.server.limits.head_bytes, 8192);
    assert_eq!(config.admin.listen.to_string(), "[::1]:9901");
    assert!(config.admin.open_metrics);
    assert_eq!(config.tracing.share.ppm(), 500_000);
}

#[test]
fn lists_are_given_whole_or_by_their_elements() {
    let listen = |environment: &[(&str, &str)]| -> Vec<String> {
        let config = good(environment);
        config
            .server
            .listen
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let whole = ("SERIN__SERVER__LISTEN", "[\"0.0.0.0:80\"]");
    let first = ("SERIN__SERVER__LISTEN__0", "0.0.0.0:81");
    let next = ("SERIN__SERVER__LISTEN__2", "{ address = \"0.0.0.0:82\" }");
    assert_eq!(listen(&[whole]), ["0.0.0.0:80"]);
    assert_eq!(listen(&[first]), ["0.0.0.0:81", "127.0.0.1:2"]);
    assert_eq!(
        listen(&[next]),
        ["127.0.0.1:1", "127.0.0.1:2", "0.0.0.0:82"]
    );
    // The order of the environment says nothing.
    assert_eq!(listen(&[first, whole]), ["0.0.0.0:81"]);
    let eleven: Vec<String> = (0..11)
        .map(|n| format!("SERIN__SERVER__LISTEN__{n}"))
        .collect();
    let ports: Vec<String> = (0..11).map(|n| format!("0.0.0.0:{}", 90 + n)).collect();
    let pairs: Vec<(&str, &str)> = eleven
        .iter()
        .zip(&ports)
        .map(|(n, p)| (&**n, &**p))
        .collect();
    assert_eq!(listen(&pairs), ports);
}

#[test]
fn a_whole_configuration_can_come_from_the_environment() {
    let environment = [
        ("SERIN__POOLS__ULTRA_FAST__ENDPOINTS__0", "fast:9201"),
        ("SERIN__POOLS__ULTRA_FAST__HEALTH", "false"),
        ("SERIN__POOLS__Mixed-Case__ENDPOINTS", "[\"m:1\"]"),
        ("SERIN__ROUTES__0__PATH", "/"),
        ("SERIN__ROUTES__0__ROLLOUT", "analyzer"),
        ("SERIN__ROLLOUTS__ANALYZER__BASELINE", "original"),
        ("SERIN__ROLLOUTS__ANALYZER__CANARY", "ultra_fast"),
        ("SERIN__ROLLOUTS__ANALYZER__STAGES__0__NAME", "canary"),
        ("SERIN__ROLLOUTS__ANALYZER__STAGES__0__WEIGHT", "1%"),
        ("SERIN__ROLLOUTS__ANALYZER__STAGES__0__DURATION", "2h"),
        ("SERIN__ROLLOUTS__ANALYZER__STAGES__0__MIN_REQUESTS", "1000"),
        (
            "SERIN__ROLLOUTS__ANALYZER__STAGES__0__ADVANCE",
            "[\"error_rate < 1%\", \"p99 < 200ms\"]",
        ),
    ];
    let config = good(&environment);
    assert_eq!(pool(&config, "ultra_fast"), ["fast:9201"]);
    assert_eq!(pool(&config, "mixed-case"), ["m:1"]);
    assert_eq!(config.routes.len(), 1);
    let rollout = config.rollouts.values().next().expect("a rollout");
    let stage = &rollout.plan.stages[0];
    assert_eq!((stage.weight.ppm(), stage.min_requests), (10_000, 1000));
    assert_eq!(stage.advance.len(), 2);
}

/// Variable, key, and a part of the message of the one fault.
fn check(environment: &[(&str, &str)], variable: &str, key: &str, part: &str) {
    let found = faults(environment);
    let [fault] = found.as_slice() else {
        panic!("{environment:?}: {found:?}");
    };
    assert_eq!(
        (fault.file.as_str(), fault.line, fault.key.as_str()),
        (format!("environment {variable}").as_str(), None, key)
    );
    assert!(fault.message.contains(part), "{part:?} is not in {fault}");
}

#[test]
fn a_fault_of_a_variable_names_it_and_the_key() {
    let one = |variable: &str, value: &str, key: &str, part: &str| {
        check(&[(variable, value)], variable, key, part);
    };
    one(
        "SERIN__SERVER__WORKERS",
        "many",
        "server.workers",
        "a whole number from 0 to 1024",
    );
    one(
        "SERIN__SERVER__WORKERS",
        "",
        "server.workers",
        "a whole number",
    );
    one(
        "SERIN__SERVR__WORKERS",
        "1",
        "servr",
        "did you mean `server`?",
    );
    one(
        "SERIN__SERVER__WORKER",
        "1",
        "server.worker",
        "did you mean `workers`?",
    );
    one(
        "SERIN__SERVER__WORKERS__0",
        "1",
        "server.workers",
        "nothing is inside of it",
    );
    one(
        "SERIN__SERVER__LISTEN__3",
        "0.0.0.0:1",
        "server.listen",
        "the next element of the list is 2, not 3",
    );
    one(
        "SERIN__SERVER__LISTEN__FIRST",
        "0.0.0.0:1",
        "server.listen",
        "no number of an element",
    );
    one(
        "SERIN__SERVER__LISTEN__1",
        "127.0.0.1:1",
        "server.listen[1]",
        "listed twice",
    );
    one(
        "SERIN__SERVER__LISTEN",
        "[\"x\"]",
        "server.listen[0]",
        "an address like",
    );
    one(
        "SERIN__SERVER__LISTEN",
        "[\"x\"",
        "server.listen",
        "expected an array, found a string",
    );
    one(
        "SERIN__POOLS__B__HEALTH",
        "false",
        "pools.b.endpoints",
        "missing",
    );
    one(
        "SERIN__POOLS__ORIGINAL__ENDPOINTS__0",
        "${NOBODY}:1",
        "pools.original.endpoints[0]",
        "NOBODY is not set",
    );
    one("SERIN__", "1", "", "not the name of a key");
    let deep = format!("SERIN{}", "__A".repeat(20_000));
    one(&deep, "1", "", "not the name of a key");
    one("SERIN__SERVER____WORKERS", "1", "", "not the name of a key");
}

#[test]
fn faults_of_the_file_keep_their_lines_beside_those_of_variables() {
    let file = "[server]\nworkers = -1\nlisten = [\"x\"]\n";
    let environment = [
        ("SERIN__SERVER__WORKERS", "-2"),
        ("SERIN__ADMIN__LISTEN", "y"),
    ];
    let found = parse_with("proxy.toml", file, &environment).expect_err("faults");
    let told: Vec<(&str, Option<usize>, &str)> = found
        .iter()
        .map(|fault| (fault.file.as_str(), fault.line, fault.key.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("environment SERIN__ADMIN__LISTEN", None, "admin.listen"),
            ("environment SERIN__SERVER__WORKERS", None, "server.workers"),
            ("proxy.toml", Some(3), "server.listen[0]"),
        ]
    );
}

#[test]
fn it_is_known_where_each_value_came_from() {
    let config = good(&[("SERIN__SERVER__WORKERS", "2"), ("HOST", "there")]);
    let origins: Vec<(&str, &str, How)> = config
        .environment
        .iter()
        .map(|origin| (origin.key.as_str(), origin.variable.as_str(), origin.how))
        .collect();
    assert_eq!(
        origins,
        [
            ("server.workers", "SERIN__SERVER__WORKERS", How::Override),
            ("pools.original.endpoints[0]", "HOST", How::Template),
        ]
    );
    assert_eq!(good(&[]).environment[0].how, How::Default);
}

#[test]
fn check_says_which_values_are_the_environments_and_not_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, FILE).expect("a file");
    let check = |workers: &str| {
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_serin")))
            .args(["check", "--config"])
            .arg(&file)
            .env("SERIN__SERVER__WORKERS", workers)
            .env("HOST", "secret")
            .output()
            .expect("the binary runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, out, _) = check("2");
    assert_eq!(code, Some(0), "{out}");
    for line in [
        "  server.workers               SERIN__SERVER__WORKERS",
        "  pools.original.endpoints[0]  HOST in the file",
    ] {
        assert!(
            out.lines().any(|shown| shown == line),
            "{line:?} is not in\n{out}"
        );
    }
    assert!(!out.contains("secret"), "{out}");
    let (code, _, err) = check("two");
    assert_eq!(code, Some(2));
    let told = "environment SERIN__SERVER__WORKERS: server.workers: expected a whole number";
    assert!(err.contains(told), "{err}");
}
