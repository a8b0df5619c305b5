//! The admin port as others meet it: real sockets, the real gate, table and store behind it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use serin::admin::{self, Admin, BindError};
use serin::config;
use serin::control::{self, Control};
use serin::live::{Live, Table};
use serin::rollout::name::RolloutName;
use serin::rollout::time::WallTime;
use serin::shutdown::{self, Stage, Trigger};
use serin::signals;
use serin::store::{AccessLines, Settings, Store};
use serin::telemetry::{MirrorDifference, MirrorSample, Mirrored, Telemetry};

const FILE: &str = r#"
[pools.original]
endpoints = ["127.0.0.1:9101", "127.0.0.1:9102"]
[pools.ultra_fast]
endpoints = ["127.0.0.1:9201"]
[[routes]]
path = "/"
rollout = "analyzer"
[rollouts.analyzer]
baseline = "original"
canary = "ultra_fast"
salt = "analyzer-v3"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "1%"
duration = "2h"
[[rollouts.analyzer.stages]]
name = "ramp"
weight = "10%"
duration = "4h"
"#;

/// Longest wait for anything before a test fails.
const PATIENCE: Duration = Duration::from_secs(15);

/// A whole control path with its admin port, in a directory of its own.
struct House {
    admin: Option<Admin>,
    control: Option<Control>,
    store: Store,
    stop: Trigger,
    telemetry: Arc<Telemetry>,
    file: PathBuf,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

/// One answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl House {
    fn new() -> Self {
        Self::of(FILE)
    }

    fn of(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("proxy.toml");
        std::fs::write(&file, text).expect("written");
        let config = config::parse("proxy.toml", text, &|_| None).expect("a valid file");
        let (say, reports) = control::reports();
        let settings = Settings {
            path: directory.path().join("serin.db"),
            deployment_logs: directory.path().join("logs"),
            retention: Duration::from_secs(86_400),
            access_lines: AccessLines::default(),
        };
        let opened = Store::open(&settings, say).expect("a store");
        let store = opened.0.clone();
        let (stop, shutdown) = shutdown::channel();
        let telemetry = Telemetry::new();
        let live = Live::new(Table::build(&config, &BTreeMap::new(), &telemetry, None));
        let (sources, _) = signals::start(&config, shutdown.clone()).expect("a thread");
        let control = control::start(control::Parts {
            signals: sources,
            booted: config.clone(),
            config,
            config_path: file.clone(),
            live,
            telemetry: Arc::clone(&telemetry),
            store: Ok(opened),
            reports,
            fleet: None,
            region: None,
            shutdown: shutdown.clone(),
        })
        .expect("it starts");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let parts = admin::Parts {
            listener: admin::bind(listen).expect("a free port"),
            control: control.handle(),
            telemetry: Arc::clone(&telemetry),
            shutdown,
        };
        let admin = admin::start(parts).expect("it starts");
        let address = admin.local_addr();
        Self {
            admin: Some(admin),
            control: Some(control),
            store,
            stop,
            telemetry,
            file,
            address,
            _directory: directory,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let host = self.address.to_string();
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += &format!("host: {host}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let mut stream = self.connect();
        // The answer may come, and the connection close, before the whole body is taken.
        let sent = stream.write_all(&[head.as_bytes(), b"\r\n", body].concat());
        let mut text = Vec::new();
        let read = stream.read_to_end(&mut text);
        Answer::parse(&text)
            .unwrap_or_else(|| panic!("{method} {path}: {sent:?} {read:?} {text:?}"))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[], body.as_bytes())
    }

    fn act(&self, action: &str) -> Answer {
        let answer = self.post(
            &format!("/api/rollouts/analyzer/{action}"),
            r#"{"reason": "a test"}"#,
        );
        assert_eq!(answer.status, 200, "{action}: {answer:?}");
        answer
    }

    /// Everything that a refused change must leave as it was.
    fn standing(&self) -> (Value, Value) {
        (
            self.get("/api/traffic-weights").json(),
            self.get("/api/rollouts/analyzer/events").json(),
        )
    }

    /// Opens the event stream after an event.
    fn stream(&self, after: Option<u64>, headers: &str) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        let after = after
            .map(|id| format!("last-event-id: {id}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "GET /api/rollouts/analyzer/events HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n{after}{headers}\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).expect("sent");
        BufReader::new(stream)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.advance(Stage::Stopped);
        let control = self.control.take().is_none_or(Control::join);
        self.store.close(Duration::from_secs(5));
        let admin = self.admin.take().is_none_or(Admin::join);
        if !std::thread::panicking() {
            assert!(control && admin, "a thread panicked");
        }
    }
}

impl Answer {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(Self {
            status,
            headers: headers.collect(),
            body: body.to_owned(),
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn is_problem(&self) -> bool {
        let kind = self.headers.get("content-type").map(String::as_str);
        let body = self.json();
        let texts = ["type", "title", "detail"]
            .iter()
            .all(|field| body[*field].as_str().is_some_and(|text| !text.is_empty()));
        kind == Some("application/problem+json") && texts && body["status"] == self.status
    }
}

/// SHA-256 of a token, as the file has it.
fn hex(token: &str) -> String {
    let digest = Sha256::digest(token);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the numbers of `enough` events off a stream.
fn read_ids(stream: &mut BufReader<TcpStream>, enough: usize) -> Vec<u64> {
    (0..enough).map(|_| read_event(stream).0).collect()
}

/// Reads the next event's number and its data.
fn read_event(stream: &mut BufReader<TcpStream>) -> (u64, Value) {
    let mut line = String::new();
    let mut id = None;
    loop {
        line.clear();
        assert!(
            stream.read_line(&mut line).expect("in time") > 0,
            "the stream ended"
        );
        assert!(
            !line.starts_with(':'),
            "nothing came until the stream was kept alive"
        );
        if let Some(number) = line.trim_end().strip_prefix("id: ") {
            id = Some(number.parse().expect("a number"));
        }
        if let (Some(id), Some(data)) = (id, line.strip_prefix("data: ")) {
            return (id, serde_json::from_str(data).expect("JSON"));
        }
    }
}

#[test]
fn the_clients_own_curl_line_works() {
    let house = House::new();
    let curl = |body: &str| {
        let url = format!("http://{}/api/traffic-weights", house.address);
        let output = Command::new("curl")
            .args(["-sS", "-X", "POST", &url, "-d", body])
            .output();
        let output = output.expect("curl is installed");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    assert_eq!(
        curl(r#"{"original": 99, "ultra_fast": 1}"#),
        json!({"original": 0.99, "ultra_fast": 0.01})
    );
    assert_eq!(
        house.get("/api/traffic-weights").json(),
        json!({"original": 0.99, "ultra_fast": 0.01})
    );
    assert_eq!(
        curl(r#"{"original": 1, "ultra_fast": 0}"#),
        json!({"original": 1.0, "ultra_fast": 0.0})
    );
    assert_eq!(
        curl(r#"{"original": 1e12, "ultra_fast": 1e-3}"#),
        json!({"original": 0.999_999, "ultra_fast": 0.000_001})
    );
    assert_eq!(
        house.get("/api/traffic-weights").json(),
        json!({"original": 0.999_999, "ultra_fast": 0.000_001})
    );
}

#[test]
fn wrong_weights_are_refused_and_nothing_changes() {
    let house = House::new();
    assert_eq!(
        house
            .post(
                "/api/traffic-weights",
                r#"{"original": 3, "ultra_fast": 1}"#
            )
            .status,
        200
    );
    let before = house.standing();
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "1",
        "\"original\"",
        "{",
        r#"{"original": 1}"#,
        r#"{"ultra_fast": 1}"#,
        r#"{"original": 1, "ultra_fast": 0, "other": 0}"#,
        r#"{"original": 1, "other": 0}"#,
        r#"{"original": -1, "ultra_fast": 2}"#,
        r#"{"original": 1, "ultra_fast": -0.001}"#,
        r#"{"original": 0, "ultra_fast": 0}"#,
        r#"{"original": 1, "ultra_fast": NaN}"#,
        r#"{"original": 1, "ultra_fast": Infinity}"#,
        r#"{"original": 1, "ultra_fast": 1e999}"#,
        r#"{"original": 1, "ultra_fast": "1"}"#,
        r#"{"original": 1, "ultra_fast": null}"#,
        r#"{"original": 1, "ultra_fast": 0, "ultra_fast": 1}"#,
        r#"{"original": 1, "ultra_fast": 0} x"#,
        "original=1&ultra_fast=0",
        "\u{feff}{\"original\": 1, \"ultra_fast\": 0}",
    ] {
        let answer = house.post("/api/traffic-weights", body);
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        assert!(answer.is_problem(), "{body}: {answer:?}");
    }
    let good = r#"{"original": 1, "ultra_fast": 0}"#;
    for (query, status) in [
        ("?guard=no", 422),
        ("?gaurd=false", 422),
        ("?rollout=a&rollout=b", 422),
        ("?rollout=other", 404),
    ] {
        assert_eq!(
            house
                .post(&format!("/api/traffic-weights{query}"), good)
                .status,
            status,
            "{query}"
        );
    }
    let broken = house.ask(
        "POST",
        "/api/traffic-weights",
        &[],
        b"{\"original\": 1, \"ultra_fast\": 0, \"\xff\": 0}",
    );
    assert_eq!(broken.status, 422);
    assert_eq!(house.standing(), before);
}

#[test]
fn other_sites_and_foreign_names_change_nothing() {
    let house = House::new();
    let before = house.standing();
    let own = format!("http://{}", house.address);
    let body = br#"{"original": 1, "ultra_fast": 1}"#;
    for (headers, status) in [
        (vec![("origin", "http://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("host", "evil.example")], 421),
        (vec![("host", "localhost.evil.example:9901")], 421),
        (
            vec![("host", "localhost"), ("origin", "http://127.0.0.1")],
            403,
        ),
    ] {
        let answer = house.ask("POST", "/api/traffic-weights", &headers, body);
        assert_eq!(answer.status, status, "{headers:?}");
        assert!(answer.is_problem(), "{headers:?}: {answer:?}");
        assert!(
            !answer
                .headers
                .keys()
                .any(|name| name.starts_with("access-control")),
            "{answer:?}"
        );
    }
    assert_eq!(house.standing(), before);
    let own_page = [("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(
        house
            .ask("POST", "/api/traffic-weights", &own_page, body)
            .status,
        200
    );
}

#[test]
fn tokens_are_needed_and_their_names_are_recorded() {
    let tokens = format!(
        "[[admin.tokens]]\nname = \"ci\"\nroles = [\"operate\"]\nsha256 = \"{}\"\n[[admin.tokens]]\nname = \"eyes\"\nroles = [\"read\"]\nsha256 = \"{}\"\n",
        hex("s3cret-ci"),
        hex("s3cret-eyes")
    );
    let house = House::of(&format!("{FILE}{tokens}"));
    let bearer = |token: &str| format!("Bearer {token}");
    let (ci, eyes, wrong) = (bearer("s3cret-ci"), bearer("s3cret-eyes"), bearer("s3cret"));
    let ask = |method: &str, path: &str, token: Option<&str>| {
        let headers: Vec<_> = token
            .map(|token| ("authorization", token))
            .into_iter()
            .collect();
        house.ask(method, path, &headers, b"")
    };
    let start = "/api/rollouts/analyzer/start";
    for (method, path, token, status) in [
        ("GET", "/healthz", None, 200),
        ("GET", "/readyz", None, 200),
        ("GET", "/metrics", None, 401),
        ("GET", "/api/rollouts", None, 401),
        ("GET", "/nowhere", None, 401),
        ("GET", "/api/rollouts", Some(&wrong), 401),
        ("GET", "/api/rollouts", Some(&eyes), 200),
        ("POST", start, None, 401),
        ("POST", start, Some(&eyes), 403),
        ("POST", start, Some(&ci), 200),
    ] {
        let answer = ask(method, path, token.map(String::as_str));
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(status == 200 || answer.is_problem());
        assert_eq!(
            answer.headers.contains_key("www-authenticate"),
            status == 401
        );
    }
    let mut stream = house.stream(None, &format!("authorization: {eyes}\r\n"));
    read_ids(&mut stream, 1);
    let headers = [("authorization", eyes.as_str())];
    let events = house
        .ask("GET", "/api/rollouts/analyzer/events", &headers, b"")
        .json();
    assert_eq!(events["events"][0]["by"], "ci", "{events}");
}

#[test]
fn a_stream_resumes_without_gap_and_without_double() {
    let house = House::new();
    house.act("start");
    let mut first = house.stream(None, "");
    let mut seen = read_ids(&mut first, 1);
    for action in ["pause", "resume", "hold", "resume"] {
        house.act(action);
    }
    seen.extend(read_ids(&mut first, 2));
    drop(first);
    for action in ["hold", "resume", "pause"] {
        house.act(action);
    }
    let mut second = house.stream(seen.last().copied(), "");
    house.act("rollback");
    let history = house.get("/api/rollouts/analyzer/events").json();
    let all: Vec<u64> = history["events"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|event| event["id"].as_u64())
        .collect();
    seen.extend(read_ids(&mut second, all.len() - seen.len()));
    assert_eq!(seen, all);
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());

    let page = house
        .get("/api/rollouts/analyzer/events?after=2&limit=3")
        .json();
    let ids: Vec<_> = page["events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| event["id"].as_u64())
        .collect();
    assert_eq!(
        (ids, page["next"].as_u64()),
        (vec![Some(3), Some(4), Some(5)], Some(5))
    );

    // A number that this journal never gave out: the reader is told everything.
    let mut lost = house.stream(Some(1_000_000), "");
    assert_eq!(read_ids(&mut lost, 2), [1, 2]);
}

#[test]
fn a_reader_that_comes_and_goes_misses_nothing_while_much_happens() {
    let house = House::new();
    house.act("start");
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..30 {
                house.act("hold");
                house.act("resume");
            }
            house.act("rollback");
        });
        let mut last = Value::Null;
        while last != "rolled_back" {
            let mut stream = house.stream(seen.last().copied(), "");
            for _ in 0..3 {
                let (id, event) = read_event(&mut stream);
                seen.push(id);
                last = event["event"].clone();
                if last == "rolled_back" {
                    break;
                }
            }
        }
    });
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert!(seen.len() >= 62, "{}", seen.len());
}

#[test]
fn every_refusal_is_a_problem_document() {
    let house = House::new();
    let long = "x".repeat(1 << 20);
    for (method, path, body, status) in [
        ("GET", "/nowhere", "", 404),
        ("GET", "/api", "", 404),
        ("GET", "/api/rollouts/other", "", 404),
        ("GET", "/api/rollouts/%ff", "", 404),
        ("GET", "/api/rollouts/analyzer/", "", 404),
        ("POST", "/api/rollouts", "", 405),
        ("DELETE", "/metrics", "", 405),
        ("POST", "/api/rollouts/other/start", "", 404),
        ("POST", "/api/rollouts/analyzer/pause", "", 409),
        ("POST", "/api/rollouts/analyzer/advance", "{}", 409),
        ("POST", "/api/rollouts/analyzer/start", "{", 422),
        (
            "POST",
            "/api/rollouts/analyzer/start",
            r#"{"froce": true}"#,
            422,
        ),
        (
            "POST",
            "/api/rollouts/analyzer/start",
            r#"{"force": "yes"}"#,
            422,
        ),
        (
            "POST",
            "/api/rollouts/analyzer/start",
            &long,
            413, /* with the quotes it would be one byte too long */
        ),
        ("POST", "/api/rollouts/analyzer/incidents", "", 422),
        (
            "POST",
            "/api/rollouts/analyzer/incidents",
            r#"{"summary": " "}"#,
            422,
        ),
        ("DELETE", "/api/rollouts/analyzer/incidents/1", "", 404),
        ("DELETE", "/api/rollouts/analyzer/incidents/x", "", 404),
        (
            "PUT",
            "/api/rollouts/analyzer/pins/x",
            r#"{"pool": "other"}"#,
            422,
        ),
        ("PUT", "/api/rollouts/analyzer/pins/x", "", 422),
        ("DELETE", "/api/rollouts/analyzer/pins/x", "", 404),
        ("GET", "/api/rollouts/analyzer/events?after=x", "", 422),
        ("GET", "/api/rollouts/analyzer/events?limit=0", "", 422),
        ("GET", "/api/rollouts/analyzer/events?limit=10001", "", 422),
        ("GET", "/api/rollouts/analyzer/report?format=pdf", "", 422),
        ("GET", "/api/assign", "", 422),
        ("GET", "/api/assign?learner=", "", 422),
        ("GET", "/api/assign?learner=x&who=y", "", 422),
        (
            "POST",
            "/api/pools/other/endpoints/127.0.0.1:9101/drain",
            "",
            404,
        ),
        (
            "POST",
            "/api/pools/original/endpoints/127.0.0.1:1/drain",
            "",
            404,
        ),
        ("POST", "/api/rollouts/analyzer/approve", "", 409),
        (
            "POST",
            "/api/rollouts/analyzer/approve",
            r#"{"role": "a b"}"#,
            422,
        ),
        ("POST", "/api/rollouts/analyzer/reject", "", 409),
        ("PUT", "/api/rollouts/analyzer/freeze", "", 422),
        (
            "PUT",
            "/api/rollouts/analyzer/freeze",
            r#"{"reason": "x", "until": "2001-01-01T00:00:00Z"}"#,
            422,
        ),
        ("DELETE", "/api/rollouts/analyzer/freeze", "", 409),
        ("PUT", "/api/rollouts/analyzer/segments/eu", "", 422),
        ("GET", "/api/rollouts/analyzer/samples?step=1ms", "", 422),
        ("GET", "/api/rollouts/analyzer/mirror?last=1", "", 422),
        ("GET", "/api/rollouts/other/mirror", "", 404),
        ("GET", "/api/rollouts/analyzer/samples?from=noon", "", 422),
        (
            "GET",
            "/api/rollouts/analyzer/samples?to=2001-01-01T00:00:00Z&from=2101-01-01T00:00:00Z",
            "",
            422,
        ),
        ("POST", "/api/signals", "", 422),
        ("POST", "/api/outcomes", "{}", 422),
        ("POST", "/api/rehearsals", "{}", 409),
        ("POST", "/api/rehearsals", "{\"share\": \"150%\"}", 422),
    ] {
        let body = if status == 413 {
            format!("{body}x")
        } else {
            body.to_owned()
        };
        let answer = house.ask(method, path, &[], body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.is_problem(), "{method} {path}: {answer:?}");
        assert_eq!(
            answer.headers.contains_key("allow"),
            status == 405,
            "{method} {path}: {answer:?}"
        );
    }
    assert_eq!(
        house.get("/api/rollouts/analyzer/events").json()["events"],
        json!([])
    );
}

#[test]
fn a_rollout_shows_how_it_stands() {
    let house = House::new();
    let idle = house.get("/api/rollouts/analyzer").json();
    assert_eq!(
        (&idle["phase"], &idle["weight_ppm"], &idle["run"]),
        (&json!("idle"), &json!(0), &json!(0))
    );
    house.act("start");
    let mut stream = house.stream(None, "");
    read_ids(&mut stream, 1);
    let all = house.get("/api/rollouts").json();
    let running = &all["rollouts"][0];
    assert_eq!(
        (&running["phase"], &running["stage"]),
        (&json!("running"), &json!("canary"))
    );
    assert_eq!(
        running["weights_in_force"],
        json!({"original": 0.99, "ultra_fast": 0.01})
    );
    assert_eq!(running["plan"]["stages"][1]["name"], "ramp");

    let metrics = house.get("/metrics");
    assert_eq!(
        metrics.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        "serin_rollout_weight{rollout=\"analyzer\"} 0.01",
        "serin_rollout_phase{rollout=\"analyzer\",phase=\"running\"} 1",
        "serin_rollout_phase{rollout=\"analyzer\",phase=\"idle\"} 0",
        "serin_rollout_stage{rollout=\"analyzer\"} 1",
        "serin_store_works{rollout=\"analyzer\"} 1",
        "serin_endpoint_drained{pool=\"original\",endpoint=\"127.0.0.1:9102\"} 0",
    ] {
        assert!(
            metrics.body.lines().any(|have| have == line),
            "{line} is not in\n{}",
            metrics.body
        );
    }
    let mut families: Vec<_> = metrics
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let count = families.len();
    families.sort_unstable();
    families.dedup_by_key(|line| line.split(' ').next().unwrap_or_default().to_owned());
    assert_eq!(families.len(), count, "a family is there twice");

    let report = house.get("/api/rollouts/analyzer/report");
    assert_eq!(
        (report.status, report.headers["content-type"].as_str()),
        (200, "text/markdown; charset=utf-8")
    );
    assert!(report.body.contains("analyzer"));
    assert_eq!(
        house
            .get("/api/rollouts/analyzer/report?format=json")
            .json()["rollout"],
        "analyzer"
    );
    let report = house.get("/api/rollouts/analyzer/report?format=html");
    assert_eq!(
        (report.status, report.headers["content-type"].as_str()),
        (200, "text/html; charset=utf-8")
    );
    let policy = &report.headers["content-security-policy"];
    assert!(
        policy.starts_with("default-src 'none'; style-src 'unsafe-inline'"),
        "{policy}"
    );
    assert!(
        report.body.starts_with("<!doctype html>"),
        "{}",
        report.body
    );
}

#[test]
fn a_learner_is_told_where_he_goes_and_why() {
    let salt = "checkout@v42";
    let house = House::of(&FILE.replace("analyzer-v3", salt));
    assert_eq!(
        house
            .post(
                "/api/traffic-weights",
                r#"{"original": 1, "ultra_fast": 1}"#
            )
            .status,
        200
    );
    let vectors: Value =
        serde_json::from_str(include_str!("data/assignment_vectors.json")).expect("JSON");
    let vectors = vectors["vectors"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|vector| vector["salt"] == salt);
    let mut checked = 0;
    for vector in vectors {
        let learner = vector["key"].as_str().expect("text");
        let encoded: String = learner.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let found = house
            .get(&format!("/api/assign?rollout=analyzer&learner={encoded}"))
            .json();
        assert_eq!(found["bucket"], vector["bucket_1e6"], "{learner}");
        let below = vector["bucket_1e6"].as_u64() < Some(500_000);
        let (pool, row) = if below {
            ("ultra_fast", 5)
        } else {
            ("original", 6)
        };
        assert_eq!(
            (&found["pool"], &found["row"]),
            (&json!(pool), &json!(row)),
            "{learner}"
        );
        checked += 1;
    }
    assert!(checked >= 2, "no vector has the salt of this file");
}

#[test]
fn a_pin_holds_until_it_is_taken_away() {
    let house = House::new();
    let pin = "/api/rollouts/analyzer/pins/a%2Fb%20%ff";
    let assigned = || house.get("/api/assign?learner=a%2Fb%20%ff").json();
    assert_eq!(assigned()["pool"], "original");
    assert_eq!(
        house
            .ask("PUT", pin, &[], br#"{"pool": "ultra_fast"}"#)
            .status,
        204
    );
    assert_eq!(
        (&assigned()["pool"], &assigned()["row"]),
        (&json!("ultra_fast"), &json!(2))
    );
    assert_eq!(house.ask("DELETE", pin, &[], b"").status, 204);
    assert_eq!(assigned()["pool"], "original");
    assert_eq!(house.ask("DELETE", pin, &[], b"").status, 404);
}

#[test]
fn a_segments_ceiling_is_set_shown_obeyed_and_lifted() {
    let house = House::new();
    house.act("start");
    let path = "/api/rollouts/analyzer/segments/eu%20west";
    let put = |body: &str| house.ask("PUT", path, &[], body.as_bytes());
    let row = |segment: &str| {
        // Bucket 0 to 9,999 is below 1 %.
        let learner = (0..)
            .map(|n| format!("l{n}"))
            .find(|id| {
                let place = format!("/api/assign?rollout=analyzer&learner={id}");
                house.get(&place).json()["bucket"].as_u64() < Some(10_000)
            })
            .expect("one in a hundred");
        let place = format!("/api/assign?rollout=analyzer&learner={learner}&segment={segment}");
        house.get(&place).json()["why"].clone()
    };
    assert_eq!(row("eu%20west"), "below_weight");

    let answer = put(r#"{"max_weight": 0, "reason": "the eu complains"}"#);
    let none = json!({ "segment": "eu west", "max_weight": 0.0, "decided": 0.0 });
    assert_eq!((answer.status, answer.json()), (200, none));
    assert_eq!(row("eu%20west"), "above_weight");
    assert_eq!(row("us"), "below_weight");
    let status = house.get("/api/rollouts/analyzer").json();
    assert_eq!(status["phase"], "held");
    assert_eq!(status["causes"][0]["cause"], "manual");
    let listed = house.get("/api/rollouts/analyzer/segments").json();
    assert_eq!(listed["segments"], status["segments"]);
    let eu = &listed["segments"][0];
    assert_eq!(
        (&eu["segment"], &eu["max_weight"]),
        (&json!("eu west"), &json!(0.0))
    );
    assert_eq!(eu["canary"]["stage"]["requests"], 0);
    assert_eq!(eu["lowered_by"], Value::Null);
    let metrics = house.get("/metrics").body;
    let line = "serin_segment_ceiling{rollout=\"analyzer\",segment=\"eu west\"} 0";
    assert!(metrics.contains(line), "{metrics}");

    // Up again, as text and as a number; in force when the answer comes.
    for (body, share) in [
        (r#"{"max_weight": "0.5%"}"#, 0.005),
        (r#"{"max_weight": 0.75}"#, 0.75),
    ] {
        let answer = put(body).json();
        assert_eq!(answer["max_weight"], share, "{answer}");
    }
    assert_eq!(row("eu%20west"), "below_weight");
    let lifted = house.ask("DELETE", path, &[], b"").json();
    assert_eq!(lifted["max_weight"], Value::Null);
    let again = house.ask("DELETE", path, &[], b"");
    assert_eq!(again.status, 404, "{again:?}");

    let events = house.get("/api/rollouts/analyzer/events").json();
    let events = events["events"].as_array().expect("a list");
    let told: Vec<(&Value, &Value, &Value)> = events
        .iter()
        .filter(|event| {
            event["event"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("ceiling"))
        })
        .map(|event| (&event["event"], &event["ceiling_ppm"], &event["by"]))
        .collect();
    let (set, lift, local) = (
        json!("ceiling_set"),
        json!("ceiling_lifted"),
        json!("local"),
    );
    let shares = [json!(0), json!(5_000), json!(750_000), Value::Null];
    let wanted: Vec<(&Value, &Value, &Value)> = [&set, &set, &set, &lift]
        .into_iter()
        .zip(&shares)
        .map(|(kind, share)| (kind, share, &local))
        .collect();
    assert_eq!(told, wanted);
    let first = events.iter().find(|event| event["event"] == "ceiling_set");
    assert_eq!(first.expect("it was set")["reason"], "the eu complains");

    for body in [
        "",
        "{}",
        r#"{"max_weight": "5"}"#,
        r#"{"max_weight": 1.5}"#,
        r#"{"max_weight": -0.1}"#,
        r#"{"max_weight": "0.00001%"}"#,
        r#"{"max_weight": null}"#,
        r#"{"max_weight": 0, "until": 1}"#,
    ] {
        let before = house.standing();
        let refused = put(body);
        assert_eq!(refused.status, 422, "{body}: {refused:?}");
        assert_eq!(house.standing(), before, "{body}");
    }
    let blind = House::of(&FILE.replace("salt =", "segment = false\nsalt ="));
    let refused = blind.ask("PUT", path, &[], br#"{"max_weight": 0}"#);
    assert!(refused.status == 422 && refused.body.contains("tells no segments apart"));
}

#[test]
fn what_a_mirror_found_is_shown() {
    let path = "/api/rollouts/analyzer/mirror";
    let none = House::new().get(path).json();
    assert_eq!(
        (&none["share"], &none["differences"]),
        (&json!(0.0), &json!([]))
    );
    let house = House::of(&FILE.replace(
        "salt = ",
        "mirror = { share = \"5%\", compare = {} }\nsalt = ",
    ));
    let name = RolloutName::parse("analyzer").expect("a name");
    let meter = house.telemetry.mirror(&name);
    let mut ticket = meter.begin(2).expect("there is room");
    ticket.set(Mirrored::Different);
    drop(ticket);
    let under_way = meter.begin(2);
    for result in [Mirrored::Same, Mirrored::Same, Mirrored::TooLarge] {
        meter.count(result);
    }
    for nth in 1..=2 {
        let sample = MirrorSample {
            at: WallTime::from_unix_millis(1_762_005_600_000),
            method: "GET".to_owned(),
            path: format!("/{nth}"),
            request_id: None,
            endpoint: "127.0.0.1:9201".to_owned(),
            differences: vec![MirrorDifference {
                what: "status".to_owned(),
                baseline: "200".to_owned(),
                canary: "404".to_owned(),
            }],
        };
        meter.keep(sample, 20);
    }
    let shown = house.get(path).json();
    let difference = |path: &str| {
        json!({
            "at": "2025-11-01T14:00:00.000Z", "method": "GET", "path": path, "request_id": null,
            "endpoint": "127.0.0.1:9201",
            "differences": [{ "what": "status", "baseline": "200", "canary": "404" }],
        })
    };
    assert_eq!(
        shown,
        json!({
            "rollout": "analyzer", "share": 0.05, "in_flight": 1,
            "counts": { "answered": 0, "same": 2, "different": 1, "failed": 0, "dropped": 0, "too_large": 1 },
            "differences": [difference("/2"), difference("/1")],
        })
    );
    drop(under_way);
    let metrics = house.get("/metrics").body;
    let line = "serin_mirror_total{rollout=\"analyzer\",result=\"same\"} 2";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn incidents_open_and_close() {
    let house = House::new();
    house.act("start");
    let opened = house.post(
        "/api/rollouts/analyzer/incidents",
        r#"{"summary": "answers look odd"}"#,
    );
    assert_eq!(opened.status, 201);
    let id = opened.json()["id"].as_u64().expect("a number");
    let open = || {
        house.get("/api/rollouts/analyzer").json()["incidents"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(open(), Some(1));
    assert_eq!(
        house
            .ask(
                "DELETE",
                &format!("/api/rollouts/analyzer/incidents/{id}"),
                &[],
                b""
            )
            .status,
        204
    );
    assert_eq!(open(), Some(0));
}

#[test]
fn a_start_waits_for_its_time_and_a_freeze_for_its_end() {
    let house = House::of(&FILE.replace(
        "duration = \"2h\"",
        "duration = \"2h\"\nstart_at = \"2999-11-01T14:00:00Z\"",
    ));
    let freeze = "/api/rollouts/analyzer/freeze";
    let frozen = house.ask(
        "PUT",
        freeze,
        &[],
        br#"{"reason": "night", "until": "2999-01-01T00:00:00Z"}"#,
    );
    assert_eq!(frozen.status, 200, "{frozen:?}");
    assert_eq!(frozen.json()["frozen"]["until"], "2999-01-01T00:00:00.000Z");
    let refused = house.post("/api/rollouts/analyzer/start", "");
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("frozen by local"), "{refused:?}");
    assert_eq!(house.ask("DELETE", freeze, &[], b"").status, 200);

    house.act("start");
    let status = house.get("/api/rollouts/analyzer").json();
    assert_eq!(
        (
            &status["phase"],
            &status["waits_for"],
            &status["next_start"]
        ),
        (
            &json!("scheduled"),
            &json!(["start_at"]),
            &json!("2999-11-01T14:00:00.000Z")
        )
    );
    assert_eq!(status["weights_in_force"]["ultra_fast"], 0.0);
    let metrics = house.get("/metrics").body;
    let phase = "serin_rollout_phase{rollout=\"analyzer\",phase=\"scheduled\"} 1";
    assert!(metrics.contains(phase), "{metrics}");
    house.act("abort");
}

#[test]
fn an_endpoint_is_taken_out_and_back() {
    let house = House::new();
    let drained = || house.get("/api/pools").json()["pools"][0]["endpoints"][1]["drained"].clone();
    assert_eq!(drained(), false);
    assert_eq!(
        house
            .post("/api/pools/original/endpoints/127.0.0.1:9102/drain", "")
            .status,
        204
    );
    assert_eq!(drained(), true);
    assert_eq!(
        house
            .post("/api/pools/original/endpoints/127.0.0.1%3A9102/undrain", "")
            .status,
        204
    );
    assert_eq!(drained(), false);
}

#[test]
fn a_reload_names_every_fault_or_what_it_did() {
    let house = House::new();
    std::fs::write(
        &house.file,
        FILE.replace("1%", "101%").replace("4h", "soon"),
    )
    .expect("written");
    let refused = house.post("/api/reload", "");
    assert_eq!(refused.status, 422);
    assert!(refused.is_problem());
    let faults = refused.json()["faults"].clone();
    let lines: Vec<_> = faults
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|fault| fault["line"].as_u64())
        .collect();
    let line_of = |part: &str| {
        FILE.lines()
            .position(|line| line.contains(part))
            .map(|index| index as u64 + 1)
    };
    assert!(
        lines.contains(&line_of("\"1%\"").expect("there"))
            && lines.contains(&line_of("4h").expect("there")),
        "{faults}"
    );

    std::fs::write(
        &house.file,
        FILE.replace(", \"127.0.0.1:9102\"", "").replace("4h", "5h"),
    )
    .expect("written");
    house.act("start");
    let reloaded = house.post("/api/reload", "").json();
    assert!(
        !reloaded["changed"].as_array().expect("a list").is_empty(),
        "{reloaded}"
    );
    assert_eq!(
        reloaded["pending"].as_array().map(Vec::len),
        Some(1),
        "{reloaded}"
    );
    assert_eq!(
        house.get("/api/pools").json()["pools"][0]["endpoints"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );

    std::fs::remove_file(&house.file).expect("removed");
    assert_eq!(house.post("/api/reload", "").status, 422);
}

#[test]
fn ready_ends_before_alive_does() {
    let house = House::new();
    assert_eq!(house.get("/readyz").status, 200);
    house.stop.advance(Stage::Leaving);
    let answer = house.get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.is_problem());
    assert_eq!(house.get("/healthz").status, 200);
}

#[test]
fn a_port_in_use_is_named() {
    let house = House::new();
    let refused = admin::bind(house.address).expect_err("somebody listens there");
    assert!(matches!(refused, BindError::Bind { .. }));
    assert!(
        refused.to_string().contains(&house.address.to_string()),
        "{refused}"
    );
}

#[test]
fn without_tokens_the_port_is_not_opened_to_others() {
    let house = House::new();
    let control = house.control.as_ref().expect("it runs").handle();
    let (_stop, shutdown) = shutdown::channel();
    let listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = admin::start(admin::Parts {
        listener: admin::bind(listen).expect("a free port"),
        control,
        telemetry: Telemetry::new(),
        shutdown,
    });
    assert!(matches!(refused, Err(BindError::NoTokens(_))));
}

#[test]
fn the_page_and_the_description_are_there() {
    let house = House::new();
    let page = house.get("/");
    assert!(page.body.contains("/api/openapi.json"));
    let policy = &page.headers["content-security-policy"];
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "form-action 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    let script = house.get("/console/app.js");
    assert!(script.body.contains("import"), "{script:?}");
    for (name, value) in [
        ("content-type", "text/javascript; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(script.headers[name], value);
    }
    let tag = script.headers["etag"].as_str();
    let again = house.ask("GET", "/console/app.js", &[("if-none-match", tag)], b"");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let other = house.ask("GET", "/console/api.js", &[("if-none-match", tag)], b"");
    assert_eq!(other.status, 200);
    for path in ["/console/mod.rs", "/console/..%2fmod.rs", "/console/"] {
        assert_eq!(house.get(path).status, 404, "{path}");
    }
    assert_eq!(house.get("/api/openapi.json").json()["openapi"], "3.1.0");
}

/// What the dashboard offers is what the port would take.
#[test]
fn a_caller_learns_who_he_is_and_what_is_allowed() {
    let house = House::new();
    assert_eq!(
        house.get("/api/whoami").json(),
        json!({ "by": "local", "tokens": false, "read": true, "operate": true, "approves": null })
    );
    let allowed = || -> Vec<String> {
        let state = house.get("/api/rollouts/analyzer").json();
        let rows = state["allowed"].as_array().expect("a list").clone();
        let texts = |row: Value| {
            assert!(row["does"].as_str().is_some_and(|does| !does.is_empty()));
            row["action"].as_str().expect("a word").to_owned()
        };
        rows.into_iter().map(texts).collect()
    };
    let has = |action: &str| allowed().iter().any(|one| one == action);
    assert!(has("start") && !has("pause"), "{:?}", allowed());
    house.act("start");
    assert!(has("pause") && !has("start"), "{:?}", allowed());
    assert!(!has("canary replaced"), "{:?}", allowed());

    let tokens = format!(
        "{FILE}\n[[admin.tokens]]\nname = \"money\"\nroles = [\"approve:finance\"]\nsha256 = \"{}\"\n",
        hex("secret")
    );
    let house = House::of(&tokens);
    let nobody = house.get("/api/whoami").json();
    assert_eq!(
        (&nobody["by"], &nobody["read"]),
        (&json!("nobody"), &json!(false))
    );
    let bearer = [("authorization", "Bearer secret")];
    let money = house.ask("GET", "/api/whoami", &bearer, b"");
    assert_eq!(
        money.json(),
        json!({ "by": "money", "tokens": true, "read": true, "operate": false, "approves": ["finance"] })
    );
}

#[test]
fn events_say_what_happened_and_why_weights_were_set() {
    let house = House::new();
    let body = r#"{"original": 3, "ultra_fast": 1}"#;
    let path = "/api/traffic-weights?reason=a%20try&rollout=analyzer";
    assert_eq!(house.post(path, body).status, 200);
    let events = house.get("/api/rollouts/analyzer/events").json();
    let event = &events["events"][0];
    assert_eq!(event["reason"], "a try");
    assert_eq!(event["sentence"], "weight set by hand from 0% to 25%");
    let (_, streamed) = read_event(&mut house.stream(Some(0), ""));
    assert_eq!(streamed, *event);

    let drain = "/api/pools/original/endpoints/127.0.0.1:9101/drain";
    assert_eq!(
        house.post(drain, r#"{"reason": "a fan is loud"}"#).status,
        204
    );
    assert_eq!(house.post(drain, r#"{"why": "?"}"#).status, 422);
}

#[test]
fn no_bytes_bring_it_down() {
    let seed = std::env::var("SERIN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_251_101_u64);
    println!("SERIN_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let house = House::new();
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    let parts = [
        "api",
        "rollouts",
        "analyzer",
        "pins",
        "events",
        "%ff",
        "%",
        "..",
        "traffic-weights",
        "reload",
        "?",
        "&",
        "=",
        "/",
        "\u{e9}",
    ];
    let bits = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        "original",
        "ultra_fast",
        ":",
        ",",
        "1",
        "-",
        "1e999",
        "null",
        "\\u0000",
        "\u{0}",
        "\u{fffd}",
    ];
    for _ in 0..400 {
        let mut pick = |from: &[&'static str], most: usize| {
            let count = dice.random_range(0..most);
            (0..count)
                .map(|_| from[dice.random_range(0..from.len())])
                .collect::<Vec<_>>()
        };
        let path = format!("/{}", pick(&parts, 6).join("/"));
        let body = pick(&bits, 12).concat();
        let method = methods[dice.random_range(0..methods.len())];
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = house.connect();
        stream.write_all(text.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        if stream.read_to_end(&mut answer).is_ok() {
            let answer = Answer::parse(&answer).unwrap_or_else(|| panic!("{text:?}: {answer:?}"));
            assert!(answer.status != 500, "{text:?}: {answer:?}");
        }
    }
    let mut noise = vec![0_u8; 4096];
    dice.fill_bytes(&mut noise);
    let mut stream = house.connect();
    // The port may hang up at the first byte that is no HTTP.
    let sent = stream.write_all(&noise);
    drop((stream, sent));
    assert_eq!(house.get("/healthz").status, 200);
}
