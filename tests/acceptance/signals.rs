//! Figures from outside: a real Prometheus, the analyzers' own text, a JSON document, and what is posted.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Analyzer, Connection, Place, Process, Serin, StopOnDrop, eventually, eventually_within,
    free_port, get, pause, post, try_get, two_pools,
};

/// A cause that ends by itself must be gone for a minute.
const GONE: Duration = Duration::from_secs(100);

/// A Prometheus server on a fixed port that scrapes the analyzers every second.
fn prometheus(folder: &Path, listen: SocketAddr, analyzers: &[SocketAddr]) -> Process {
    let targets: Vec<String> = analyzers.iter().map(|addr| format!("'{addr}'")).collect();
    let text = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n  - job_name: analyzers\n    static_configs: [{{ targets: [{}] }}]\n",
        targets.join(", ")
    );
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, text).expect("a configuration");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("prometheus").display()
        ))
        .arg(format!("--web.listen-address={listen}"));
    let process = Process::spawn(command, folder.join("prometheus.log"));
    let query = "/api/v1/query?query=count(process_resident_memory_bytes)";
    eventually("Prometheus has scraped both", || {
        let answer = try_get(listen, query).filter(|answer| answer.status == 200)?;
        (answer.json()["data"]["result"][0]["value"][1] == "2").then_some(())
    });
    process
}

/// Learners who ask until told to stop.
fn ask(proxy: SocketAddr, stop: &AtomicBool) {
    let mut connection = Connection::open(proxy).expect("it accepts");
    for learner in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        connection
            .learner(&format!("learner-{}", learner % 1000))
            .expect("an answer");
        pause();
    }
}

fn signal<'a>(status: &'a Value, name: &str, pool: &str) -> Option<&'a Value> {
    let signals = status["signals"].as_array().expect("a list");
    signals
        .iter()
        .find(|signal| signal["name"] == name && signal["pool"] == pool)
}

/// Waits for a fresh value of a signal.
fn value(serin: &Serin, name: &str, pool: &str) -> f64 {
    eventually(&format!("{name} of {pool}"), || {
        let status = serin.status("analyzer");
        let found = signal(&status, name, pool).filter(|signal| signal["stale"] == false)?;
        found["value"].as_f64()
    })
}

fn kinds(serin: &Serin) -> Vec<String> {
    let events = serin.events("analyzer");
    let kinds = events
        .iter()
        .map(|event| event["event"].as_str().expect("a word").to_owned());
    kinds.collect()
}

#[test]
fn a_prometheus_that_stops_holds_the_rollout_and_lets_it_go_on_when_it_is_back() {
    let place = Place::new();
    let folder = place.folder.path().to_owned();
    let original = Analyzer::start(&folder, "original");
    let ultra_fast = Analyzer::start(&folder, "ultra_fast");
    let server = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut running = prometheus(&folder, server, &[original.addr, ultra_fast.addr]);
    let stages = format!(
        "[[rollouts.analyzer.signals]]\nname = \"memory\"\nsource = \"prometheus\"\nurl = \"http://{server}\"\n\
         query = 'max(process_resident_memory_bytes{{pool=\"{{pool}}\"}})'\ninterval = \"1s\"\ntimeout = \"500ms\"\n\
         [[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"20%\"\nduration = \"5s\"\nmax_extension = \"3s\"\nwarmup = \"0s\"\nmin_requests = 20\n\
         advance = [\"memory < 1GiB\", \"memory{{delta}} < 10%\"]\n\
         [[rollouts.analyzer.stages]]\nname = \"ramp\"\nweight = \"40%\"\nduration = \"1h\"\n"
    );
    place.write(1, &two_pools(&[original.addr], &[ultra_fast.addr], &stages));
    let serin = place.start();
    for pool in ["original", "ultra_fast"] {
        assert_eq!(value(&serin, "memory", pool), 536_870_912.0, "{pool}");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| ask(serin.proxy, &stop));
        let _stop = StopOnDrop(&stop);
        assert_eq!(serin.act("analyzer", "start").status, 200);
        eventually("the stage begins", || {
            kinds(&serin)
                .contains(&"stage_began".to_owned())
                .then_some(())
        });
        running.kill();

        eventually("extended", || {
            kinds(&serin).contains(&"extended".to_owned()).then_some(())
        });
        let held = serin.await_phase("analyzer", "held");
        let cause = &held["causes"][0];
        assert_eq!(
            (&cause["cause"], &cause["ends_by_itself"]),
            (&json!("no_data"), &json!(true)),
            "{held}"
        );
        let why = cause["why"].as_str().expect("a sentence");
        assert!(
            why.contains("memory < 1GiB has no data") && why.contains("cannot connect"),
            "{why}"
        );
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let status = serin.status("analyzer");
            assert_eq!(
                (&status["phase"], &status["stage"], &status["weight_ppm"]),
                (&json!("held"), &json!("canary"), &json!(200_000))
            );
            pause();
        }
        assert!(!kinds(&serin).contains(&"advanced".to_owned()));

        running = prometheus(&folder, server, &[original.addr, ultra_fast.addr]);
        eventually_within(GONE, "it goes on by itself", &mut || {
            let status = serin.status("analyzer");
            (status["stage"] == "ramp" && status["weight_ppm"] == 400_000).then_some(())
        });
    });
    assert_eq!(
        kinds(&serin).iter().filter(|kind| *kind == "held").count(),
        1
    );
}

#[test]
fn an_analyzers_own_figures_are_scraped_and_a_leak_rolls_back() {
    let place = Place::new();
    let folder = place.folder.path().to_owned();
    let originals = [
        Analyzer::start(&folder, "original"),
        Analyzer::start(&folder, "original"),
    ];
    let ultra_fast = Analyzer::start(&folder, "ultra_fast");
    originals[1].behave(&json!({"memory_bytes": 1e9, "cpu": 0.75}));
    ultra_fast.behave(&json!({"cache_hit_rate": 0.0, "cpu": 2}));
    let document = ultra_fast.addr;
    let stages = format!(
        "[[rollouts.analyzer.signals]]\nname = \"memory\"\nsource = \"scrape\"\nquery = \"process_resident_memory_bytes\"\nagg = \"max\"\ninterval = \"1s\"\n\
         [[rollouts.analyzer.signals]]\nname = \"cpu\"\nsource = \"scrape\"\nquery = 'analyzer_cpu_cores{{pool=\"original\"}}'\nagg = \"sum\"\ninterval = \"1s\"\n\
         [[rollouts.analyzer.signals]]\nname = \"hits\"\nsource = \"scrape\"\nquery = \"analyzer_cache_hits_total / (analyzer_cache_hits_total + analyzer_cache_misses_total)\"\ninterval = \"1s\"\n\
         [[rollouts.analyzer.signals]]\nname = \"asked\"\nsource = \"scrape\"\nquery = \"analyzer_requests_total\"\nrate = true\nagg = \"sum\"\ninterval = \"1s\"\n\
         [[rollouts.analyzer.signals]]\nname = \"canary_cpu\"\nsource = \"json\"\nurl = \"http://{document}/behaviour\"\nquery = \"/cpu\"\ninterval = \"1s\"\n\
         [[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"50%\"\nduration = \"1h\"\nwarmup = \"0s\"\nmin_requests = 20\n\
         rollback = [\"memory > 1GiB for 1s\"]\n"
    );
    let addrs: Vec<SocketAddr> = originals.iter().map(|analyzer| analyzer.addr).collect();
    place.write(1, &two_pools(&addrs, &[ultra_fast.addr], &stages));
    let serin = place.start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| ask(serin.proxy, &stop));
        let _stop = StopOnDrop(&stop);
        assert_eq!(serin.act("analyzer", "start").status, 200);
        assert_eq!(value(&serin, "memory", "original"), 1e9);
        assert_eq!(value(&serin, "memory", "ultra_fast"), 536_870_912.0);
        assert_eq!(value(&serin, "cpu", "original"), 1.0);
        assert_eq!(value(&serin, "canary_cpu", "ultra_fast"), 2.0);
        assert_eq!(value(&serin, "hits", "ultra_fast"), 0.0);
        assert!(value(&serin, "hits", "original") > 0.5);
        eventually("learners are counted as a rate", || {
            (value(&serin, "asked", "ultra_fast") > 5.0).then_some(())
        });
        let missing = eventually("no series, no data", || {
            let status = serin.status("analyzer");
            signal(&status, "cpu", "ultra_fast").map(|found| found["note"].to_string())
        });
        assert!(missing.contains("there is no series"), "{missing}");

        ultra_fast.behave(&json!({"memory_bytes": 2e9}));
        let status = serin.await_phase("analyzer", "rolled_back");
        assert_eq!(status["weight_ppm"], 0);
    });
    let events = serin.events("analyzer");
    let back = events
        .iter()
        .find(|event| event["event"] == "rolled_back")
        .expect("the event");
    assert_eq!(back["trigger"], "memory > 1GiB for 1s");
}

const POSTED: &str = "[[rollouts.analyzer.signals]]\nname = \"churn\"\nsource = \"push\"\ninterval = \"1m\"\n\
    [[rollouts.analyzer.signals]]\nname = \"pulled\"\nsource = \"json\"\nurl = \"http://127.0.0.1:9\"\nquery = \"/x\"\ninterval = \"1h\"\n\
    [[rollouts.analyzer.signals]]\nname = \"completion_impact\"\nsource = \"outcomes\"\n\
    [[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"50%\"\nduration = \"1h\"\nadvance = [\"churn < 5%\", \"|revenue_impact| < 3%\"]\n";

#[test]
fn readings_are_pushed_all_or_none() {
    let place = Place::new();
    let analyzer = Analyzer::start(place.folder.path(), "original");
    place.write(1, &two_pools(&[analyzer.addr], &[analyzer.addr], POSTED));
    let serin = place.start();
    let push = |body: &Value| post(serin.admin, "/api/signals", &body.to_string());
    let reading = |change: Value| {
        let mut item =
            json!({"rollout": "analyzer", "name": "churn", "pool": "ultra_fast", "value": 0.03});
        item.as_object_mut()
            .expect("an object")
            .extend(change.as_object().expect("an object").clone());
        item
    };
    let good = reading(json!({}));
    let long_ago = "2025-01-01T00:00:00Z";
    let wrong = [
        (json!({"rollout": "other"}), "[1].rollout"),
        (json!({"name": "chrun"}), "[1].name"),
        (json!({"name": "pulled"}), "[1].name"),
        (json!({"name": "completion_impact"}), "[1].name"),
        (json!({"pool": "fast"}), "[1].pool"),
        (json!({"segment": ""}), "[1].segment"),
        (json!({"count": 0}), "[1].count"),
        (json!({"at": long_ago}), "[1].at"),
        (json!({"at": "2999-01-01T00:00:00Z"}), "[1].at"),
    ];
    for (change, place) in &wrong {
        let answer = push(&json!([good, reading(change.clone())]));
        assert_eq!(answer.status, 422, "{change}: {}", answer.text());
        assert_eq!(
            answer.json()["faults"][0]["key"],
            *place,
            "{}",
            answer.text()
        );
    }
    for body in [
        "",
        "1",
        "[1]",
        "{}",
        r#"[{"rollout": "analyzer", "name": "churn", "pool": "ultra_fast", "value": 1e999}]"#,
    ] {
        assert_eq!(
            post(serin.admin, "/api/signals", body).status,
            422,
            "{body}"
        );
    }
    let status = serin.status("analyzer");
    assert!(
        signal(&status, "churn", "ultra_fast").is_none(),
        "nothing was half applied: {status}"
    );

    let answer = push(&json!([
        good,
        reading(json!({"pool": "original", "segment": "eu", "count": 12}))
    ]));
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"taken": 2})),
        "{}",
        answer.text()
    );
    let status = serin.status("analyzer");
    let shown = signal(&status, "churn", "ultra_fast").expect("it was taken");
    assert_eq!(
        (&shown["value"], &shown["stale"], &shown["segment"]),
        (&json!(0.03), &json!(false), &Value::Null)
    );
    let shown = signal(&status, "churn", "original").expect("it was taken");
    assert_eq!(
        (&shown["segment"], &shown["count"]),
        (&json!("eu"), &json!(12))
    );
    // What is pulled shows once its first try has failed.
    let lines = [
        "serin_signal_value{rollout=\"analyzer\",signal=\"churn\",arm=\"canary\",segment=\"\"} 0.03",
        "serin_signal_stale{rollout=\"analyzer\",signal=\"churn\",arm=\"canary\",segment=\"\"} 0",
        "serin_signal_stale{rollout=\"analyzer\",signal=\"pulled\",arm=\"canary\",segment=\"\"} 1",
    ];
    for line in lines {
        eventually(line, || {
            let metrics = get(serin.admin, "/metrics").text();
            metrics.lines().any(|found| found == line).then_some(())
        });
    }
}

#[test]
fn results_are_counted_once_and_what_belongs_to_no_arm_is_left_out_by_name() {
    let place = Place::new();
    let analyzer = Analyzer::start(place.folder.path(), "original");
    place.write(1, &two_pools(&[analyzer.addr], &[analyzer.addr], POSTED));
    let mut serin = place.start();
    let send = |serin: &Serin, body: &Value| post(serin.admin, "/api/outcomes", &body.to_string());
    let result = |learner: usize, value: f64, id: Option<String>| {
        let learner = format!("learner-{learner}");
        json!({"rollout": "analyzer", "learner": learner, "name": "revenue", "value": value, "id": id})
    };
    let early = send(&serin, &result(0, 1.0, None));
    assert_eq!(
        (early.status, &early.json()["left_out"][0]["why"]),
        (200, &json!("no run was started"))
    );
    assert_eq!(serin.act("analyzer", "start").status, 200);
    eventually("the weight is in force", || {
        (serin.get("/api/traffic-weights")["ultra_fast"] == 0.5).then_some(())
    });

    // Half of the learners are on canary, by their hash: 12 each there, 10 on baseline.
    let arm = |learner: usize| {
        let lookup = serin.get(&format!(
            "/api/assign?rollout=analyzer&learner=learner-{learner}"
        ));
        lookup["arm"] == "canary"
    };
    let arms: Vec<bool> = (0..600).map(arm).collect();
    let all: Vec<Value> = arms
        .iter()
        .enumerate()
        .map(|(learner, canary)| {
            result(
                learner,
                if *canary { 12.0 } else { 10.0 },
                Some(format!("id-{learner}")),
            )
        })
        .collect();
    let on_canary = arms.iter().filter(|canary| **canary).count();
    let answer = send(&serin, &json!(all));
    assert_eq!(
        answer.json(),
        json!({"counted": 600, "duplicates": 0, "left_out": []}),
        "{}",
        answer.text()
    );
    let again = send(
        &serin,
        &json!([
            all[0],
            all[1],
            result(0, 5.0, Some("new".to_owned())),
            result(0, 5.0, Some("new".to_owned()))
        ]),
    );
    assert_eq!(again.json()["duplicates"], 3, "{}", again.text());
    let undo = send(&serin, &result(0, -5.0, None));
    assert_eq!(undo.json()["counted"], 1);
    let late = send(
        &serin,
        &json!({"rollout": "analyzer", "learner": "x", "name": "completion", "value": 1, "at": "2025-01-01T00:00:00Z"}),
    );
    assert_eq!(
        late.json()["left_out"][0]["why"],
        "it was before the run began"
    );

    for (body, key) in [
        (
            json!([all[0], {"rollout": "analyzer", "learner": "x", "name": "reven", "value": 1}]),
            "[1].name",
        ),
        (
            json!({"rollout": "analyzer", "learner": "", "name": "revenue", "value": 1}),
            "[0].learner",
        ),
        (
            json!({"rollout": "analyzer", "learner": "x", "name": "revenue", "value": 1e16}),
            "[0].value",
        ),
    ] {
        let answer = send(&serin, &body);
        assert_eq!(
            (answer.status, &answer.json()["faults"][0]["key"]),
            (422, &json!(key)),
            "{}",
            answer.text()
        );
    }
    let check = |serin: &Serin| {
        let status = serin.status("analyzer");
        let revenue = &status["outcomes"][0];
        assert_eq!(revenue["name"], "revenue", "{status}");
        let counted = revenue["counted"]["canary"].as_u64().expect("a count") as usize;
        assert!((on_canary..=on_canary + 2).contains(&counted), "{revenue}");
        let impact = revenue["impact"].as_f64().expect("both arms have results");
        assert!((impact - 0.2).abs() < 0.02, "{revenue}");
        let bounds = revenue["interval"].as_array().expect("enough groups");
        assert!(
            bounds[0].as_f64() > Some(0.1) && bounds[1].as_f64() < Some(0.3),
            "{revenue}"
        );
        revenue.clone()
    };
    let before = check(&serin);
    // What is counted is on disk with the next tick.
    let counted_at = serin.status("analyzer")["clock_ms"].as_u64();
    eventually("some ticks pass", || {
        let now = serin.status("analyzer")["clock_ms"].as_u64();
        (now > counted_at.map(|at| at + 1_000)).then_some(())
    });
    serin.process.kill();
    serin.restart();
    assert_eq!(check(&serin), before, "what was counted survives a kill");
    let again = send(&serin, &all[2]);
    assert_eq!(again.json()["duplicates"], 1);
}
