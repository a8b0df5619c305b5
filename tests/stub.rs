//! Promises of the stub analyzer and of the learners' load, over real sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serin::clock;
use serin::stub::analyzer::{Analyzer, AnalyzerSettings};
use serin::stub::behaviour::{Behaviour, Latency};
use serin::stub::load::{Load, LoadReport, LoadSettings, Spacing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything here takes, however slow the machine: a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that hides nothing: bytes out, bytes in.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr)
            .await
            .expect("the analyzer listens");
        Self {
            stream,
            read: Vec::new(),
        }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("sent");
    }

    async fn get(&mut self, target: &str) -> Answer {
        self.send(&format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nx-learner-id: learner-7\r\n\r\n"
        ))
        .await;
        self.answer().await
    }

    async fn post(&mut self, target: &str, body: &str) -> Answer {
        self.send(&post(target, body)).await;
        self.answer().await
    }

    /// Reads one whole head, of an answer or of a request, in lower case.
    async fn head(&mut self) -> String {
        let head_len = loop {
            let end = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            assert!(
                self.more().await.expect("a head") > 0,
                "closed before the head's end"
            );
        };
        let head = String::from_utf8(self.read.drain(..head_len).collect()).expect("text");
        head.to_ascii_lowercase()
    }

    /// Reads one whole answer.
    async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let length: usize =
            field(&head, "content-length").map_or(0, |text| text.parse().expect("a length"));
        while self.read.len() < length {
            assert!(self.more().await.expect("a body") > 0, "closed in the body");
        }
        let status = head[9..12].parse().expect("a status");
        let body = self.read.drain(..length).collect();
        Answer { status, head, body }
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        let read = self.stream.read_buf(&mut self.read);
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("something within the patience")
    }

    /// What comes until the connection ends, and how it ends.
    async fn rest(mut self) -> (Vec<u8>, std::io::Result<()>) {
        loop {
            match self.more().await {
                Ok(0) => return (self.read, Ok(())),
                Ok(_) => {}
                Err(error) => return (self.read, Err(error)),
            }
        }
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn settings(pool: &str) -> AnalyzerSettings {
    AnalyzerSettings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        pool: pool.to_owned(),
        behaviour: Behaviour::default(),
        seed: 42,
    }
}

async fn analyzer() -> Analyzer {
    Analyzer::start(settings("ultra_fast"))
        .await
        .expect("a free port")
}

/// Lets everything else run until this holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = clock::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_says_pool_learner_and_number_and_keeps_the_connection() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    for number in 1..=3 {
        let answer = client.get("/lesson?x=1").await;
        assert_eq!(answer.status, 200);
        assert_eq!(field(&answer.head, "x-analyzer-pool"), Some("ultra_fast"));
        let said = json!({"pool": "ultra_fast", "learner": "learner-7", "request": number});
        assert_eq!(answer.json(), said);
    }
    let uploaded = client.post("/upload", &"x".repeat(300_000)).await;
    assert_eq!(uploaded.json()["learner"], Value::Null);
    assert_eq!(analyzer.counts().requests, 4);
    assert_eq!(analyzer.counts().connections, 1);
    assert_eq!(client.get("/counts").await.json()["requests"], 4);
}

#[tokio::test]
async fn a_request_may_ask_for_size_status_and_delay() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    for bytes in [0, 1, 16_384, 16_385, 1_000_000] {
        let answer = client.get(&format!("/?bytes={bytes}")).await;
        assert_eq!((answer.status, answer.body.len()), (200, bytes));
    }
    assert_eq!(client.get("/?a=b&status=418").await.status, 418);
    let began = clock::now();
    assert_eq!(client.get("/?delay_ms=30").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(30));
    for wrong in [
        "bytes=-1",
        "bytes=",
        "bytes=68719476737",
        "delay_ms=600001",
        "status=199",
        "status=x",
    ] {
        assert_eq!(
            client.get(&format!("/?{wrong}")).await.status,
            400,
            "{wrong}"
        );
    }
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nx-analyzer-bytes: 5\r\nx-analyzer-status: 201\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (201, &b"xxxxx"[..])
    );
}

#[tokio::test]
async fn health_is_no_request_and_can_be_told_to_fail() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    assert_eq!(client.get("/health").await.status, 200);
    assert_eq!(analyzer.last_request(), None);
    analyzer.change(|behaviour| behaviour.sick = true);
    assert_eq!(client.get("/health").await.status, 503);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(
        (analyzer.counts().probes, analyzer.counts().requests),
        (2, 1)
    );
}

#[tokio::test]
async fn the_last_request_is_remembered_by_when_it_began() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    let before = clock::now();
    client.get("/").await;
    let after = clock::now();
    let first = analyzer.last_request().expect("there was one");
    assert!(before <= first && first <= after);
    client.get("/?delay_ms=20").await;
    let second = analyzer.last_request().expect("there was one");
    assert!(second > first && second <= clock::now() - Duration::from_millis(20));
    client.get("/health").await;
    assert_eq!(analyzer.last_request(), Some(second));
}

#[tokio::test]
async fn behaviour_is_shown_and_changed_over_http() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    let change = r#"{"error_rate": 1, "status": 502, "latency_ms": 2}"#;
    let answer = client.post("/behaviour", change).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["p99_ms"], 6.0);
    assert_eq!(client.get("/").await.status, 502);
    assert_eq!(analyzer.counts().errors, 1);
    let shown = client.get("/behaviour").await.json();
    assert_eq!(
        (&shown["status"], &shown["error_rate"]),
        (&json!(502), &json!(1.0))
    );

    let before = analyzer.behaviour();
    for wrong in [
        "",
        "[]",
        "{",
        r#"{"speed": 1}"#,
        r#"{"error_rate": 2}"#,
        r#"{"status": 99}"#,
        r#"{"latency_ms": -1}"#,
    ] {
        let answer = client.post("/behaviour", wrong).await;
        assert_eq!(answer.status, 422, "{wrong}");
        assert!(!answer.body.is_empty(), "{wrong}: says why");
    }
    assert_eq!(analyzer.behaviour(), before, "nothing was changed");
}

#[tokio::test]
async fn latency_and_a_slow_start_are_really_waited() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    analyzer.change(|behaviour| behaviour.latency = Latency::steady(Duration::from_millis(40)));
    let began = clock::now();
    client.get("/").await;
    assert!(began.elapsed() >= Duration::from_millis(40));
    analyzer.change(|behaviour| {
        behaviour.latency = Latency::steady(Duration::from_millis(10));
        behaviour.slow_start = Duration::from_secs(1_000);
    });
    let began = clock::now();
    client.get("/").await;
    assert!(
        began.elapsed() >= Duration::from_millis(90),
        "near ten times 10 ms"
    );
}

#[tokio::test]
async fn an_error_rate_is_met_by_its_share_and_the_same_seed_errs_alike() {
    let statuses = async |seed| {
        let settings = AnalyzerSettings {
            seed,
            ..settings("original")
        };
        let analyzer = Analyzer::start(settings).await.expect("a free port");
        analyzer.change(|behaviour| behaviour.error_rate = 0.5);
        let mut client = Client::connect(analyzer.addr()).await;
        let mut statuses = Vec::new();
        for _ in 0..400 {
            statuses.push(client.get("/").await.status);
        }
        statuses
    };
    let first = statuses(7).await;
    let errors = first.iter().filter(|status| **status == 500).count();
    // Four standard deviations of a binomial count: 4 * sqrt(400 / 4) = 40.
    assert!(errors.abs_diff(200) <= 40, "{errors} of 400");
    assert!(first.iter().all(|status| [200, 500].contains(status)));
    assert_eq!(first, statuses(7).await);
    assert_ne!(first, statuses(8).await);
}

#[tokio::test]
async fn a_hanging_request_is_never_answered_and_the_next_one_is() {
    let analyzer = analyzer().await;
    analyzer.change(|behaviour| behaviour.hang = 1.0);
    let mut hanging = Client::connect(analyzer.addr()).await;
    hanging.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("the hanging request", || analyzer.counts().hung == 1).await;
    analyzer.change(|behaviour| behaviour.hang = 0.0);
    let mut client = Client::connect(analyzer.addr()).await;
    assert_eq!(client.get("/").await.status, 200);
    let mut byte = [0];
    let error = hanging
        .stream
        .try_read(&mut byte)
        .expect_err("no answer yet, and not closed");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_a_close() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    assert_eq!(client.get("/").await.status, 200);
    analyzer.change(|behaviour| behaviour.reset = 1.0);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (bytes, end) = client.rest().await;
    assert!(bytes.is_empty());
    assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    assert_eq!(analyzer.counts().reset, 1);
}

#[tokio::test]
async fn a_cut_body_is_half_of_what_was_promised() {
    let analyzer = analyzer().await;
    analyzer.change(|behaviour| behaviour.cut_body = 1.0);
    for (target, promised) in [("/", None), ("/?bytes=1000", Some(1_000))] {
        let mut client = Client::connect(analyzer.addr()).await;
        client
            .send(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"))
            .await;
        let (bytes, end) = client.rest().await;
        end.expect("closed without a reset");
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let length: usize = field(head, "content-length")
            .expect("a length")
            .parse()
            .expect("a number");
        assert_eq!(promised.unwrap_or(length), length);
        assert_eq!(body.len(), length / 2, "{target}");
        assert!(!body.is_empty());
    }
    assert_eq!(analyzer.counts().cut, 2);
}

#[tokio::test]
async fn refusing_closes_the_listener_and_every_connection_until_told_otherwise() {
    let analyzer = analyzer().await;
    let addr = analyzer.addr();
    let mut client = Client::connect(addr).await;
    client.get("/").await;
    analyzer.change(|behaviour| behaviour.refuse = true);
    let (bytes, _) = client.rest().await;
    assert!(bytes.is_empty());
    let refused = TcpStream::connect(addr).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    analyzer.change(|behaviour| behaviour.refuse = false);
    assert_eq!(answered_again(addr).await, 200);
}

#[tokio::test]
async fn a_change_for_a_time_goes_back_by_itself_unless_changed_again() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    let change = r#"{"refuse": true, "for_ms": 50}"#;
    client.send(&post("/behaviour", change)).await;
    // Cut with all the others, perhaps before the answer is out: either end will do.
    let (_, _end) = client.rest().await;
    assert_eq!(answered_again(analyzer.addr()).await, 200);
    assert!(!analyzer.behaviour().refuse);

    let mut client = Client::connect(analyzer.addr()).await;
    client
        .post("/behaviour", r#"{"status": 502, "for_ms": 1}"#)
        .await;
    client.post("/behaviour", r#"{"status": 503}"#).await;
    client
        .post("/behaviour", r#"{"sick": true, "for_ms": 20}"#)
        .await;
    until("the end of the sickness", || !analyzer.behaviour().sick).await;
    assert_eq!(analyzer.behaviour().status, 503, "the later change stays");
}

fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// The status of the first answer of an analyzer that refused. While it opens its door again, a connection may still be
/// reset that came before.
async fn answered_again(addr: SocketAddr) -> u16 {
    let began = clock::now();
    loop {
        if let Ok(stream) = TcpStream::connect(addr).await {
            let mut client = Client {
                stream,
                read: Vec::new(),
            };
            let asked = client
                .stream
                .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            if asked.await.is_ok() && client.more().await.is_ok_and(|read| read > 0) {
                return client.answer().await.status;
            }
        }
        assert!(began.elapsed() < PATIENCE, "the analyzer did not come back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn stopping_frees_the_address_and_ends_every_connection() {
    let analyzer = analyzer().await;
    let mut client = Client::connect(analyzer.addr()).await;
    client.get("/").await;
    analyzer.stop().await;
    client.rest().await.1.expect("closed");
    let again = AnalyzerSettings {
        listen: analyzer.addr(),
        ..settings("original")
    };
    let again = Analyzer::bind(again).expect("the address is free");
    let taken = AnalyzerSettings {
        listen: again.addr(),
        ..settings("original")
    };
    assert_eq!(
        Analyzer::bind(taken).expect_err("in use").kind(),
        ErrorKind::AddrInUse
    );
    let pool = AnalyzerSettings {
        pool: "a\nb".to_owned(),
        ..settings("x")
    };
    assert_eq!(
        Analyzer::bind(pool).expect_err("no header value").kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn several_runtimes_serve_one_analyzer() {
    let analyzer = Analyzer::bind(settings("original")).expect("a free port");
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| runtime().block_on(analyzer.serve()));
        }
        let asked = AssertUnwindSafe(|| runtime().block_on(ask_many(&analyzer)));
        let asked = catch_unwind(asked);
        // Stopped in any case: the other threads serve until then.
        runtime().block_on(analyzer.stop());
        asked.expect("every client was answered");
    });
    assert_eq!(analyzer.counts().requests, 17);
}

async fn ask_many(analyzer: &Analyzer) {
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(analyzer.addr()).await;
        assert_eq!(client.get("/").await.status, 200);
        clients.push(client);
    }
    analyzer.change(|behaviour| behaviour.refuse = true);
    for client in clients {
        let (_, _end) = client.rest().await;
    }
    analyzer.change(|behaviour| behaviour.refuse = false);
    assert_eq!(answered_again(analyzer.addr()).await, 200);
}

fn load(target: SocketAddr) -> LoadSettings {
    LoadSettings {
        learners: 500,
        rate_per_s: 2_000.0,
        connections: 32,
        ..LoadSettings::new(target)
    }
}

/// Runs a load until it has sent this many, and checks what must hold of any report.
async fn run(settings: LoadSettings, requests: u64, change: impl FnOnce()) -> LoadReport {
    let load = Load::start(settings).expect("a valid path");
    until("half of the load", || load.snapshot().sent >= requests / 2).await;
    change();
    until("the load", || load.snapshot().sent >= requests).await;
    let report = load.stop().await;
    assert_eq!(
        report.ok() + report.errors() + report.failed,
        report.sent,
        "{report:?}"
    );
    assert!(report.latency.p50 <= report.latency.p95 && report.latency.p99 <= report.latency.max);
    assert!(report.learners_hurt <= report.learners);
    report
}

#[tokio::test]
async fn a_healthy_analyzer_answers_every_learner() {
    let analyzer = analyzer().await;
    let report = run(load(analyzer.addr()), 3_000, || ()).await;
    assert_eq!(report.pool("ultra_fast").ok, report.sent);
    assert_eq!(analyzer.counts().requests, report.sent);
    assert_eq!(
        (report.failed, report.missed, report.learners_hurt),
        (0, 0, 0)
    );
    // 500 (1 - (1 - 1/500)^3000) = 498.8 distinct learners expected.
    assert!(
        (490..=500).contains(&report.learners),
        "{}",
        report.learners
    );
    assert!(analyzer.counts().connections <= 32);
}

#[tokio::test]
async fn the_rate_is_kept_by_the_clock_and_not_by_the_answers() {
    let analyzer = analyzer().await;
    analyzer.change(|behaviour| behaviour.latency = Latency::steady(Duration::from_millis(200)));
    for spacing in [Spacing::Even, Spacing::Poisson] {
        let settings = LoadSettings {
            rate_per_s: 500.0,
            connections: 500,
            spacing,
            ..load(analyzer.addr())
        };
        let report = run(settings, 250, || ()).await;
        // With 200 ms for each answer a closed loop over these connections would send all at once;
        // one connection alone would take 50 s.
        assert!(report.took < PATIENCE / 2, "{:?}", report.took);
        assert!(
            report.took >= Duration::from_millis(450),
            "{:?}",
            report.took
        );
        assert!(report.latency.p50 >= Duration::from_millis(200));
    }
}

#[tokio::test]
async fn errors_and_failures_are_told_apart_and_hurt_learners_are_counted_once() {
    let analyzer = analyzer().await;
    let few = LoadSettings {
        learners: 5,
        ..load(analyzer.addr())
    };
    let report = run(few.clone(), 400, || {
        analyzer.change(|behaviour| behaviour.error_rate = 1.0)
    })
    .await;
    assert!(
        report.errors() > 0 && report.ok() > 0 && report.failed == 0,
        "{report:?}"
    );
    assert_eq!(
        (report.errors(), report.learners_hurt),
        (analyzer.counts().errors, 5)
    );

    analyzer.set(Behaviour::default());
    let report = run(few.clone(), 400, || {
        analyzer.change(|behaviour| behaviour.reset = 1.0)
    })
    .await;
    assert_eq!(
        (report.failed, report.errors()),
        (analyzer.counts().reset, 0),
        "{report:?}"
    );

    analyzer.set(Behaviour::default());
    let report = run(few.clone(), 400, || {
        analyzer.change(|behaviour| behaviour.cut_body = 1.0)
    })
    .await;
    assert_eq!(
        (report.failed, report.errors()),
        (analyzer.counts().cut, 0),
        "{report:?}"
    );

    analyzer.set(Behaviour {
        hang: 1.0,
        ..Behaviour::default()
    });
    let hasty = LoadSettings {
        timeout: Duration::from_millis(20),
        ..few.clone()
    };
    let report = run(hasty, 100, || ()).await;
    assert_eq!(report.failed, report.sent);
    assert_eq!(
        report.last_failure.as_deref(),
        Some("no whole answer in time")
    );

    analyzer.stop().await;
    let report = run(few, 100, || ()).await;
    assert_eq!(report.failed, report.sent);
    assert!(
        report
            .last_failure
            .is_some_and(|why| why.starts_with("cannot connect"))
    );
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_no_failure() {
    let (listener, target) = listener().await;
    let even = LoadSettings {
        rate_per_s: 200.0,
        spacing: Spacing::Even,
        connections: 4,
        ..load(target)
    };
    let load = Load::start(even).expect("a valid path");
    for _ in 0..40 {
        let mut server = accept(&listener).await;
        server.head().await;
        server
            .send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
    }
    until("the answers", || load.snapshot().ok() >= 40).await;
    assert_eq!(load.snapshot().failed, 0, "{:?}", load.snapshot());
}

#[tokio::test]
async fn one_seed_asks_as_the_same_learners_in_the_same_order() {
    let heard = async |seed| {
        let (listener, target) = listener().await;
        let one = LoadSettings {
            connections: 1,
            seed,
            ..load(target)
        };
        let load = Load::start(one).expect("a valid path");
        let mut server = accept(&listener).await;
        let mut learners = Vec::new();
        for _ in 0..50 {
            let head = server.head().await;
            learners.push(field(&head, "x-learner-id").expect("an id").to_owned());
            server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
        drop(load);
        learners
    };
    let first: Vec<String> = heard(3).await;
    assert_eq!(first, heard(3).await);
    assert_ne!(first, heard(4).await);
    assert!(first.iter().all(|id| id.starts_with("learner-")));
}

/// A server of the test's own.
async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

async fn accept(listener: &TcpListener) -> Client {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let (stream, _) = accepted
        .expect("somebody within the patience")
        .expect("accepted");
    Client {
        stream,
        read: Vec::new(),
    }
}

#[tokio::test]
async fn a_load_of_nothing_ends_at_once() {
    let analyzer = analyzer().await;
    let began: Instant = clock::now();
    for rate_per_s in [0.0, -1.0, f64::NAN] {
        let load = Load::start(LoadSettings {
            rate_per_s,
            ..load(analyzer.addr())
        })
        .expect("a valid path");
        assert_eq!(load.stop().await.sent, 0);
    }
    assert!(began.elapsed() < PATIENCE);
    assert!(
        Load::start(LoadSettings {
            path: "a b".to_owned(),
            ..load(analyzer.addr())
        })
        .is_err()
    );
}
