//! A collector of traces is told of requests as the protocol says it, and one that is gone delays nobody.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;

use crate::support::{
    Analyzer, Connection, PATIENCE, Place, Serin, eventually, free_port, get, two_pools,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Everybody on canary, whose pool may fail over.
const STAGE: &str = "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"100%\"\nduration = \"1h\"\nwarmup = \"0s\"\nhold = []\nrollback = []\n";

/// What a collector was posted.
struct Posted {
    head: String,
    spans: Vec<Span>,
    resource: Vec<KeyValue>,
}

/// Takes posts until it is dropped, on a thread; answers with one status after the other, and then always 200.
fn collector(address: SocketAddr, statuses: &'static [&'static str]) -> Receiver<Posted> {
    let listener = TcpListener::bind(address).expect("a port");
    let (sender, posts) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let status = statuses.get(number).copied().unwrap_or("200 OK");
            let Some(posted) = stream.ok().and_then(|stream| take(stream, status)) else {
                continue;
            };
            if sender.send(posted).is_err() {
                return;
            }
        }
    });
    posts
}

fn take(stream: TcpStream, status: &str) -> Option<Posted> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).ok()?;
    let request =
        ExportTraceServiceRequest::decode(body.as_slice()).expect("the protocol's own form");
    let resource_spans = request.resource_spans;
    Some(Posted {
        head,
        resource: resource_spans
            .iter()
            .filter_map(|one| one.resource.clone())
            .flat_map(|resource| resource.attributes)
            .collect(),
        spans: resource_spans
            .into_iter()
            .flat_map(|one| one.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect(),
    })
}

fn serin(endpoint: SocketAddr, more: &str) -> (Serin, Analyzer, Analyzer) {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let pools = two_pools(&[original.addr], &[ultra_fast.addr], STAGE);
    let tracing = format!(
        "[tracing]\nendpoint = \"http://{endpoint}/v1/traces\"\nservice = \"front\"\nheaders = {{ x-key = \"k1\" }}\ntimeout = \"1s\"\n{more}\n"
    );
    place.write(1, &format!("{tracing}{pools}"));
    let serin = place.start();
    assert_eq!(serin.act("analyzer", "start").status, 200);
    eventually("everybody on canary", || {
        (serin.get("/api/traffic-weights")["ultra_fast"] == 1.0).then_some(())
    });
    (serin, original, ultra_fast)
}

fn ask(serin: &Serin, path: &str, headers: &str) -> u16 {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: example.org\r\nx-learner-id: l1\r\n{headers}\r\n");
    let mut connection = Connection::open(serin.proxy).expect("it accepts");
    connection
        .exchange(request.as_bytes())
        .expect("an answer")
        .status
}

fn spans(posts: &Receiver<Posted>, count: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    while spans.len() < count {
        let posted = posts.recv_timeout(PATIENCE).expect("the next batch");
        spans.extend(posted.spans);
    }
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|one| one.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key}: {other:?}"),
    }
}

fn says(span: &Span, wanted: &[(&str, &str)]) {
    for (key, text) in wanted {
        let seen = value(&span.attributes, key);
        assert_eq!(seen.as_deref(), Some(*text), "{key} of {span:#?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_recorded_trace_goes_on_through_serin_and_its_failover() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let posts = collector(address, &[]);
    let (serin, original, ultra_fast) = serin(address, "share = \"0%\"");
    let recorded = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=1\r\n");
    let silent = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    // Neither of these is told: the client does not record its trace, and the share is nothing.
    assert_eq!(ask(&serin, "/work", &silent), 200);
    assert_eq!(ask(&serin, "/work", ""), 200);
    assert_eq!(ask(&serin, "/work?learner=secret", &recorded), 200);
    let posted = posts.recv_timeout(PATIENCE).expect("a batch");
    assert!(
        posted.head.starts_with("post /v1/traces http/1.1\r\n"),
        "{}",
        posted.head
    );
    for header in ["content-type: application/x-protobuf\r\n", "x-key: k1\r\n"] {
        assert!(posted.head.contains(header), "{}", posted.head);
    }
    assert_eq!(
        value(&posted.resource, "service.name").as_deref(),
        Some("front")
    );
    let [span] = posted.spans.as_slice() else {
        panic!("{:#?}", posted.spans)
    };
    assert_eq!(
        (hex(&span.trace_id), hex(&span.parent_span_id)),
        (TRACE.to_owned(), PARENT.to_owned())
    );
    assert!(
        span.span_id.len() == 8 && hex(&span.span_id) != PARENT,
        "{span:#?}"
    );
    assert_eq!(
        (span.trace_state.as_str(), span.name.as_str(), span.kind),
        ("a=1", "GET", 2)
    );
    assert!(span.start_time_unix_nano < span.end_time_unix_nano);
    says(
        span,
        &[
            ("serin.rollout", "analyzer"),
            ("serin.stage", "canary"),
            ("serin.arm", "canary"),
            ("serin.pool", "ultra_fast"),
            ("serin.endpoint", &ultra_fast.addr.to_string()),
            ("serin.attempts", "1"),
            ("http.response.status_code", "200"),
            ("url.path", "/work"),
            ("server.address", "example.org"),
        ],
    );
    let all = format!("{span:?}");
    assert!(!all.contains("secret") && !all.contains("l1\""), "{all}");

    // A canary that fails is answered for by baseline: the span says who tried, and who answered.
    ultra_fast.behave(&json!({ "error_rate": 1.0 }));
    assert_eq!(ask(&serin, "/work", &recorded), 200);
    let told = spans(&posts, 1);
    let span = &told[0];
    says(
        span,
        &[
            ("serin.arm", "canary"),
            ("serin.pool", "original"),
            ("serin.attempts", "2"),
            ("http.response.status_code", "200"),
        ],
    );
    assert_eq!(span.events.len(), 1, "{span:#?}");
    let failed = &span.events[0];
    assert_eq!(failed.name, "attempt failed");
    assert_eq!(
        value(&failed.attributes, "serin.pool").as_deref(),
        Some("ultra_fast")
    );

    // Where nobody answers, serin does, and the span says why.
    drop((original, ultra_fast));
    let status = ask(&serin, "/work", &recorded);
    assert!(status >= 500, "{status}");
    let told = spans(&posts, 1);
    says(
        &told[0],
        &[("http.response.status_code", &status.to_string())],
    );
    let why = value(&told[0].attributes, "error.type").expect("why");
    let status = told[0].status.as_ref().expect("a status");
    assert_eq!((status.code, status.message.as_str()), (2, why.as_str()));
}

#[test]
fn chance_begins_traces_and_the_endpoint_hears_of_them() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    // What it cannot take now comes again.
    let posts = collector(address, &["503 Busy"]);
    let (serin, _original, ultra_fast) = serin(address, "share = \"100%\"");
    assert_eq!(ask(&serin, "/work", ""), 200);
    let first = &spans(&posts, 1)[0];
    let again = &spans(&posts, 1)[0];
    assert_eq!(first, again, "the batch that was not taken is sent again");
    assert!(again.parent_span_id.is_empty());
    says(again, &[("serin.pool", "ultra_fast")]);
    drop(ultra_fast);
    eventually("all are exported", || {
        let metrics = get(serin.admin, "/metrics").text();
        metrics
            .contains("serin_spans_exported_total 1\n")
            .then_some(())
    });
}

#[test]
fn a_collector_that_is_gone_delays_nobody_and_is_counted() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (mut serin, _original, _ultra_fast) = serin(address, "share = \"100%\"\nqueue = 8");
    // A batch is on its way to nowhere; eight wait behind it; the rest is dropped.
    let began = Instant::now();
    let mut connection = Connection::open(serin.proxy).expect("it accepts");
    for learner in 0..2_000 {
        let answer = connection
            .learner(&format!("l{learner}"))
            .expect("an answer");
        assert_eq!(answer.status, 200);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    eventually("dropped spans are counted", || {
        let metrics = get(serin.admin, "/metrics").text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("serin_spans_dropped_total{reason=\"queue_full\"}"))?;
        let dropped: u64 = line.rsplit(' ').next()?.parse().ok()?;
        (dropped > 500).then_some(())
    });
    // Nor does it hold up the end.
    let pid = serin.process.child.id().to_string();
    let began = Instant::now();
    let said = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(said.expect("kill").success());
    assert_eq!(serin.process.wait(), 0);
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}
