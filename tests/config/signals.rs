use std::time::Duration;

use serin::config::{Config, Fault, OverEndpoints, SignalSource, parse};
use serin::rollout::signal::{ArmsRead, SignalKind};

/// Two pools and a rollout `r` on lines 1 to 6; signals begin on line 7, the stage's lists stand last.
fn file(signals: &str, lists: &str) -> String {
    format!(
        "pools.a.endpoints = [\"h:1\"]\npools.b.endpoints = [\"h:2\"]\nroutes = [{{ rollout = \"r\" }}]\n[rollouts.r]\nbaseline = \"a\"\ncanary = \"b\"\n\
         {signals}\n[[rollouts.r.stages]]\nname = \"s\"\nweight = \"10%\"\nduration = \"1h\"\n{lists}\n"
    )
}

fn read(signals: &str, lists: &str) -> Result<Config, Vec<Fault>> {
    parse("proxy.toml", &file(signals, lists), &|_| None)
}

fn good(signals: &str, lists: &str) -> Config {
    read(signals, lists).unwrap_or_else(|faults| panic!("{signals}\n{lists}\n{faults:#?}"))
}

/// One fault, at this line and key, with this part in its message.
fn check(signals: &str, lists: &str, expected: (usize, &str, &str)) {
    let found = read(signals, lists).err().unwrap_or_default();
    let (line, key, part) = expected;
    let is_it = |fault: &Fault| {
        fault.line == Some(line) && fault.key == key && fault.message.contains(part)
    };
    assert!(
        found.len() == 1 && is_it(&found[0]),
        "{signals}\n{lists}\n{expected:?}: {found:#?}"
    );
}

fn signal(rest: &str) -> String {
    format!("[[rollouts.r.signals]]\nname = \"memory\"\n{rest}")
}

#[test]
fn every_source_means_what_it_says() {
    let source = |rest: &str| {
        let config = good(&signal(rest), "advance = [\"memory < 1GiB\"]");
        let rollout = &config.rollouts["r"];
        (rollout.signals[0].clone(), rollout.plan.signals[0])
    };
    let read_on = |arms| SignalKind::Read {
        interval: Duration::from_secs(15),
        arms,
    };
    let (scrape, spec) = source("source = \"scrape\"\nquery = \"a / (a + b)\"");
    assert_eq!(spec.kind, read_on(ArmsRead::Both));
    let SignalSource::Scrape {
        path,
        rate,
        over_endpoints,
        ..
    } = &scrape.source
    else {
        panic!("{scrape}")
    };
    assert_eq!(
        (path.as_str(), *rate, *over_endpoints),
        ("/metrics", false, OverEndpoints::Ratio)
    );
    assert_eq!(
        (scrape.timeout, scrape.unproven_passes),
        (Duration::from_secs(5), false)
    );

    let (_, spec) = source("source = \"prometheus\"\nurl = \"http://p:9090/\"\nquery = \"sum(x)\"");
    assert_eq!(spec.kind, read_on(ArmsRead::Canary));
    let (prometheus, spec) = source(
        "source = \"prometheus\"\nurl = \"http://p:9090/\"\nquery = \"x{pool='{pool}'}\"\ninterval = \"3s\"",
    );
    assert_eq!(
        (prometheus.source, prometheus.timeout),
        (
            SignalSource::Prometheus {
                url: "http://p:9090".to_owned(),
                query: "x{pool='{pool}'}".to_owned()
            },
            Duration::from_secs(3)
        )
    );
    assert!(matches!(
        spec.kind,
        SignalKind::Read {
            arms: ArmsRead::Both,
            ..
        }
    ));
    let (_, spec) = source(
        "source = \"json\"\nurl = \"http://{arm}.internal/x\"\nquery = \"\"\nunproven = \"pass\"",
    );
    assert_eq!(
        (spec.kind, spec.unproven_passes),
        (read_on(ArmsRead::Both), true)
    );
    let (push, _) = source("source = \"push\"\ninterval = \"1h\"");
    assert_eq!(
        (push.source, push.interval),
        (SignalSource::Push, Duration::from_secs(3600))
    );
}

#[test]
fn every_fault_of_a_signal_has_its_line() {
    let here = |key: &str| format!("rollouts.r.signals[0].{key}");
    let check =
        |rest: &str, line, key: &str, part| check(&signal(rest), "", (line, &here(key), part));
    check(
        "source = \"promethius\"",
        9,
        "source",
        "did you mean \"prometheus\"?",
    );
    check(
        "source = \"scrape\"",
        7,
        "query",
        "missing: source \"scrape\" needs it",
    );
    check(
        "source = \"scrape\"\nquery = \"rate(a[1m])\"",
        10,
        "query",
        "not understood",
    );
    check(
        "source = \"scrape\"\nquery = \"a\"\nagg = \"ratio\"",
        11,
        "agg",
        "a ratio needs a query",
    );
    check(
        "source = \"scrape\"\nquery = \"a\"\nurl = \"http://h\"",
        11,
        "url",
        "source \"scrape\" has no url",
    );
    check(
        "source = \"push\"\ntimeout = \"1s\"",
        10,
        "timeout",
        "has no timeout",
    );
    check(
        "source = \"push\"\ninterval = \"999ms\"",
        10,
        "interval",
        "shorter than 1s",
    );
    check(
        "source = \"json\"\nurl = \"http://h/x\"\nquery = \"a.b\"",
        11,
        "query",
        "not a JSON pointer",
    );
    check(
        "source = \"json\"\nurl = \"h/x\"\nquery = \"/a\"",
        10,
        "url",
        "must begin with http:// or https://",
    );
    check(
        "source = \"json\"\nurl = \"http://a:b@h/x\"\nquery = \"/a\"",
        10,
        "url",
        "names and passwords",
    );
    check(
        "source = \"scrape\"\nquery = \"a\"\ninterval = \"2s\"\ntimeout = \"3s\"",
        12,
        "timeout",
        "longer than the interval",
    );
    check(
        "source = \"push\"\nunproven = \"fail\"",
        10,
        "unproven",
        "expected \"extend\" or \"pass\"",
    );
    check("source = \"outcomes\"", 8, "name", "named after them");
    check("source = \"push\"\ncolour = 1", 10, "colour", "unknown key");
}

#[test]
fn a_condition_names_what_is_declared() {
    let push = signal("source = \"push\"");
    let advance = "rollouts.r.stages[0].advance[0]";
    let on = |condition: &str| format!("advance = [\"{condition}\"]");
    good(&push, &on("memory{delta} < 10% over 1h"));
    good("", &on("|revenue_impact| < 3%"));
    check(
        &push,
        &on("memroy < 1GiB"),
        (14, advance, "did you mean \"memory\"?"),
    );
    check(
        "",
        &on("eror_rate < 1%"),
        (12, advance, "did you mean \"error_rate\"?"),
    );
    check(
        "",
        &on("revenu_impact < 1%"),
        (12, advance, "did you mean \"revenue_impact\"?"),
    );
    check(
        "",
        &on("churn < 1%"),
        (12, advance, "no signal is declared"),
    );
    check(
        &push,
        &on("memory < 1GiB throughout"),
        (14, advance, "no intervals of its own"),
    );
    let canary = signal("source = \"json\"\nurl = \"http://h/x\"\nquery = \"/a\"");
    check(
        &canary,
        &on("memory{delta} < 1%"),
        (16, advance, "canary alone"),
    );
}
