//! Copies of baseline's requests: who gets them, what they say, what they cost a learner (nothing), and what is compared.

use std::io::Write;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use serin::live::Table;
use serin::rollout::assign::Split;
use serin::rollout::name::RolloutName;
use serin::rollout::weight::Weight;
use serin::shutdown::Stage;
use serin::telemetry::{MirrorMeter, Mirrored};

use crate::support::http2_upstream::FrameServer;
use crate::support::{PATIENCE, Proxy, Upstream, closed, config, reply, rollout, wait_for};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nhost: h\r\nx-learner-id: l\r\n\r\n";
const COMPARE: &str = "share = \"100%\"\ncompare = {}";

/// A proxy between two upstreams with this mirror, everybody on baseline.
fn mirrored(base: &Upstream, new: &Upstream, mirror: &str) -> Proxy {
    let mirror = format!("[rollouts.r.mirror]\n{mirror}");
    let text = rollout(&[base.address()], &[new.address()], &mirror);
    opened(Proxy::start("", &text))
}

fn opened(mut proxy: Proxy) -> Proxy {
    proxy.set_weight("0%");
    proxy
}

fn meter(proxy: &Proxy) -> Arc<MirrorMeter> {
    let name = RolloutName::parse("r").expect("a name");
    proxy.telemetry.mirror(&name)
}

fn count(proxy: &Proxy, result: Mirrored) -> u64 {
    meter(proxy).counted(result)
}

/// Waits until so many copies came to this.
#[track_caller]
fn wait_for_count(proxy: &Proxy, result: Mirrored, many: u64) {
    let counts = || Mirrored::ALL.map(|result| (result.as_str(), count(proxy, result)));
    wait_for(result.as_str(), || {
        assert!(count(proxy, result) <= many, "{:?}", counts());
        count(proxy, result) == many
    });
}

/// Every request that was drawn, whatever became of it.
fn drawn(proxy: &Proxy) -> u64 {
    Mirrored::ALL
        .map(|result| count(proxy, result))
        .iter()
        .sum()
}

/// An upstream that answers each request when it is told to, or not at all.
fn hanging() -> (Upstream, Sender<()>) {
    let (tell, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let upstream = Upstream::scripted(move |mut exchange| {
        while exchange.request().is_some() {
            if hear(&told).is_err() || !exchange.write(&reply("late")) {
                return;
            }
        }
    });
    (upstream, tell)
}

fn hear(told: &Mutex<Receiver<()>>) -> Result<(), mpsc::RecvTimeoutError> {
    told.lock().expect("nobody panicked").recv_timeout(PATIENCE)
}

/// An upstream that reads bodies of any framing, and tells what it read.
fn reading(answer: &'static str) -> (Upstream, Receiver<(String, Vec<u8>)>) {
    let (seen, bodies) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        while let Some(head) = exchange.head() {
            let len = value(&head, "content-length").map(|len| len.parse().expect("a length"));
            let body = match len {
                Some(len) => exchange.exactly(len),
                None => exchange.until(b"0\r\n\r\n"),
            };
            seen.send((head, body.unwrap_or_default()))
                .unwrap_or_default();
            exchange.write(&reply(answer));
        }
    });
    (upstream, bodies)
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value)
}

fn typed(content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_copy_says_what_the_request_said_and_that_it_is_one() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let text = rollout(
        &[base.address()],
        &[new.address()],
        "[rollouts.r.mirror]\nshare = \"100%\"",
    );
    let text = text.replace(
        "[pools.new]",
        "[pools.new]\nrequest_headers = { x-side = \"new\" }",
    );
    let proxy = opened(Proxy::start("", &text));
    let asked = GET.replace("\r\n\r\n", "\r\nx-serin-mirror: 7\r\nx-more: y\r\n\r\n");
    assert_eq!(proxy.ask(&asked).text(), "base");
    wait_for_count(&proxy, Mirrored::Answered, 1);
    let lines = |upstream: &Upstream| -> Vec<String> {
        let head = upstream.last_head().to_lowercase();
        let mut lines: Vec<String> = head.trim_end().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut expected = lines(&base);
    assert!(expected.contains(&"get /a?b=c http/1.1".to_owned()));
    assert!(
        expected
            .iter()
            .any(|line| line.starts_with("x-request-id: "))
    );
    assert!(!expected.iter().any(|line| line.starts_with("x-serin")));
    expected.extend(["x-serin-mirror: 1".to_owned(), "x-side: new".to_owned()]);
    expected.sort();
    assert_eq!(lines(&new), expected);
}

#[test]
fn copies_enter_no_figure_but_their_own() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"),
    );
    let proxy = mirrored(&base, &new, "share = \"100%\"");
    for _ in 0..20 {
        assert_eq!(proxy.ask(GET).status, 200);
    }
    wait_for_count(&proxy, Mirrored::Answered, 20);
    assert_eq!((proxy.arms(), proxy.arm("baseline", "ok")), (20, 20));
    assert_eq!(proxy.attempts("new", "", ""), 0);
    assert_eq!(proxy.metric("serin_answers_total", &[]), 20);
    let results = ["rollout=\"r\"", "result=\"answered\""];
    assert_eq!(proxy.metric("serin_mirror_total", &results), 20);
    assert_eq!(proxy.metric("serin_mirror_in_flight", &[]), 0);
    let pools = proxy.live.load().pools();
    let canary = pools.iter().find(|pool| pool.name.as_str() == "new");
    let endpoint = &canary.expect("it is there").endpoints[0];
    assert_eq!((endpoint.requests, endpoint.in_flight), (0, 0));
    assert_eq!((endpoint.ejections, endpoint.latency), (0, None));
}

#[test]
fn the_share_is_drawn_for_each_request() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let proxy = mirrored(&base, &new, "share = \"30%\"\nin_flight = 5000");
    let mut client = proxy.client();
    for _ in 0..2000 {
        client.send(GET);
        assert_eq!(client.answer().text(), "base");
    }
    // One learner: it is not his hash. 600 expected, a standard deviation of 20.5, so that six of them are no chance.
    let many = drawn(&proxy);
    assert!((477..=723).contains(&many), "{many}");
    let off = mirrored(&base, &new, "share = \"0%\"");
    for _ in 0..10 {
        off.ask(GET);
    }
    assert_eq!(drawn(&off), 0);
}

#[test]
fn only_what_baseline_answers_for_its_own_learners_is_copied() {
    use serin::rollout::name::Arm;
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"),
    );
    let mut proxy = mirrored(&base, &new, "share = \"100%\"");
    proxy.set_weight("100%");
    // Canary fails, and baseline answers for it.
    assert_eq!(proxy.ask(GET).text(), "base");
    assert_eq!((new.requests(), drawn(&proxy)), (1, 0));
    let pins = Arc::new([(b"l".as_slice().into(), Arm::Baseline)].into());
    proxy.publish("r", |split| Split {
        closed: false,
        pins,
        ..split
    });
    assert_eq!(proxy.ask(GET).text(), "base");
    assert_eq!(
        (new.requests(), drawn(&proxy)),
        (1, 0),
        "testers are left out"
    );
    assert_eq!(proxy.ask(&GET.replace("id: l", "id: m")).text(), "base");
    wait_for_count(&proxy, Mirrored::Answered, 1);
}

#[test]
fn a_canary_that_was_taken_back_gets_no_copies() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let mut proxy = mirrored(&base, &new, "share = \"100%\"");
    proxy.ask(GET);
    wait_for_count(&proxy, Mirrored::Answered, 1);
    proxy.publish("r", |split| split);
    assert!(proxy.live.load().rollouts()[0].split.closed);
    for _ in 0..5 {
        assert_eq!(proxy.ask(GET).text(), "base");
    }
    assert_eq!(drawn(&proxy), 1);
    // Of a segment that was lowered to nothing neither, and of the others as before.
    let ceilings = |weight: &str| [("eu".into(), Weight::parse(weight).expect("a weight"))];
    let asked = GET.replace("\r\n\r\n", "\r\nx-learner-segment: eu\r\n\r\n");
    for (weight, expected) in [("0%", 0), ("1%", 1)] {
        let before = drawn(&proxy);
        proxy.publish("r", |split| Split {
            closed: false,
            ceilings: ceilings(weight).into(),
            ..split
        });
        proxy.ask(&asked);
        assert_eq!(
            drawn(&proxy) + meter(&proxy).in_flight() as u64,
            before + expected
        );
        proxy.ask(GET);
        wait_for_count(&proxy, Mirrored::Answered, before + expected + 1);
    }
}

#[test]
fn a_retreat_stops_copies_that_were_drawn_before_it() {
    let (slow, tell) = hanging();
    let new = Upstream::answering(reply("new"));
    let mut proxy = mirrored(&slow, &new, "share = \"100%\"");
    let mut client = proxy.client();
    client.send(GET);
    wait_for("the request", || slow.requests() == 1);
    proxy.publish("r", |split| split);
    tell.send(()).expect("upstream listens");
    assert_eq!(client.answer().text(), "late");
    wait_for_count(&proxy, Mirrored::Dropped, 1);
    assert_eq!(new.requests(), 0);
}

#[test]
fn a_canary_without_usable_endpoints_gets_no_copies() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let proxy = mirrored(&base, &new, "share = \"100%\"");
    let pool = serin::rollout::name::PoolName::parse("new").expect("a name");
    let address = new.address().to_string();
    assert!(proxy.live.load().set_drained(&pool, &address, true));
    assert_eq!(proxy.ask(GET).text(), "base");
    wait_for_count(&proxy, Mirrored::Dropped, 1);
    assert!(proxy.live.load().set_drained(&pool, &address, false));
    assert_eq!(proxy.ask(GET).text(), "base");
    wait_for_count(&proxy, Mirrored::Answered, 1);
    assert_eq!(new.requests(), 1);
}

#[test]
fn unsafe_methods_are_copied_only_where_they_are_named() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let post = "POST / HTTP/1.1\r\nhost: h\r\nx-learner-id: l\r\ncontent-length: 2\r\n\r\nhi";
    let proxy = mirrored(&base, &new, "share = \"100%\"");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(proxy.ask(&post.replace("POST", method)).text(), "base");
    }
    assert_eq!(drawn(&proxy), 0);
    proxy.ask(GET);
    wait_for_count(&proxy, Mirrored::Answered, 1);
    let named = mirrored(&base, &new, "share = \"100%\"\nmethods = [\"POST\"]");
    named.ask(GET);
    assert_eq!(named.ask(post).text(), "base");
    wait_for_count(&named, Mirrored::Answered, 1);
    assert!(new.last_head().starts_with("POST / "));
}

#[test]
fn a_body_is_copied_as_it_streams_up_to_a_bound() {
    let (base, _) = reading("base");
    let (new, bodies) = reading("new");
    let mirror = "share = \"100%\"\nmethods = [\"POST\"]\nmax_body = \"8B\"";
    let proxy = mirrored(&base, &new, mirror);
    let sized = |body: &str| {
        let len = body.len();
        format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {len}\r\n\r\n{body}")
    };
    assert_eq!(proxy.ask(&sized("8 bytes.")).text(), "base");
    let (head, body) = bodies.recv_timeout(PATIENCE).expect("a copy");
    assert!(head.to_lowercase().contains("content-length: 8"), "{head}");
    assert_eq!(body, b"8 bytes.");
    assert_eq!(proxy.ask(&sized("9 bytes..")).text(), "base");
    wait_for_count(&proxy, Mirrored::TooLarge, 1);
    let head = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    for (pieces, result, many) in [
        (["1234", "5678"], Mirrored::Answered, 2),
        (["1234", "56789"], Mirrored::TooLarge, 2),
    ] {
        let mut client = proxy.client();
        client.send(head);
        for piece in pieces {
            client.send(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.answer().text(), "base");
        wait_for_count(&proxy, result, many);
    }
    let (head, body) = bodies.recv_timeout(PATIENCE).expect("a copy");
    assert!(
        head.to_lowercase().contains("transfer-encoding: chunked"),
        "{head}"
    );
    let text = String::from_utf8_lossy(&body).replace("\r\n", " ");
    assert!(text.contains("12345678"), "{text}");
    assert_eq!((base.requests(), new.requests()), (4, 2));
}

#[test]
fn a_canary_that_hangs_costs_no_learner_anything_and_no_more_than_its_places() {
    let (new, _tell) = hanging();
    let base = Upstream::answering(reply("base"));
    let proxy = mirrored(&base, &new, "share = \"100%\"\nin_flight = 2");
    let mut client = proxy.client();
    for _ in 0..10 {
        client.send(GET);
        assert_eq!(client.answer().text(), "base");
    }
    wait_for("both copies", || new.requests() == 2);
    wait_for_count(&proxy, Mirrored::Dropped, 8);
    assert_eq!(meter(&proxy).in_flight(), 2);
    assert_eq!(proxy.arm("baseline", "ok"), 10);
    // A drain does not wait for them.
    drop(client);
    proxy.advance(Stage::Draining);
    proxy.join().expect("it ends by itself");
}

#[test]
fn a_canary_that_does_not_answer_in_time_or_at_all_is_counted_as_failed() {
    let base = Upstream::answering(reply("base"));
    let (hangs, _tell) = hanging();
    let trickles = Upstream::scripted(|mut exchange| {
        exchange.request();
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx");
        exchange.end();
    });
    let breaks = Upstream::scripted(|mut exchange| {
        exchange.request();
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx");
    });
    let nonsense = Upstream::answering("no HTTP\r\n\r\n");
    let switches =
        Upstream::answering("HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    let addresses = [&hangs, &trickles, &breaks, &nonsense, &switches].map(Upstream::address);
    for address in addresses.into_iter().chain([closed()]) {
        let mirror = "[rollouts.r.mirror]\nshare = \"100%\"\ntimeout = \"200ms\"";
        let text = rollout(&[base.address()], &[address], mirror);
        let proxy = opened(Proxy::start("", &text));
        assert_eq!(proxy.ask(GET).text(), "base");
        wait_for_count(&proxy, Mirrored::Failed, 1);
        assert_eq!((drawn(&proxy), meter(&proxy).in_flight()), (1, 0));
    }
}

#[test]
fn a_canary_that_answers_without_end_is_cut_off() {
    let base = Upstream::answering(reply("base"));
    let (ended, end) = mpsc::channel();
    let new = Upstream::scripted(move |mut exchange| {
        exchange.request();
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        while exchange.stream.write_all(chunk.as_bytes()).is_ok() {}
        ended.send(()).unwrap_or_default();
    });
    for (mirror, result) in [
        ("share = \"100%\"", Mirrored::Answered),
        (COMPARE, Mirrored::Different),
    ] {
        let proxy = mirrored(&base, &new, mirror);
        assert_eq!(proxy.ask(GET).text(), "base");
        wait_for_count(&proxy, result, 1);
        end.recv_timeout(PATIENCE).expect("the connection is cut");
    }
}

#[test]
fn a_kept_connection_that_canary_closed_is_no_failure() {
    let base = Upstream::answering(reply("base"));
    let new = Upstream::scripted(|mut exchange| {
        exchange.request();
        exchange.write(&reply("new"));
        // The next request finds it closed.
        exchange.head();
        exchange.close();
    });
    let proxy = mirrored(&base, &new, "share = \"100%\"");
    for many in 1..=4 {
        assert_eq!(proxy.ask(GET).text(), "base");
        wait_for_count(&proxy, Mirrored::Answered, many);
    }
    let kept = Upstream::answering(reply("new"));
    let proxy = mirrored(&base, &kept, "share = \"100%\"");
    for many in 1..=4 {
        assert_eq!(proxy.ask(GET).text(), "base");
        wait_for_count(&proxy, Mirrored::Answered, many);
    }
    assert_eq!(kept.connections(), 1);
}

#[test]
fn answers_are_compared_as_the_file_says() {
    let json = "application/json";
    let check = |compare: &str, ours: String, theirs: String, expected: &[&str]| {
        let (base, new) = (Upstream::answering(ours), Upstream::answering(theirs));
        let proxy = mirrored(&base, &new, &format!("share = \"100%\"\n{compare}"));
        proxy.ask(GET);
        let result = if expected.is_empty() {
            Mirrored::Same
        } else {
            Mirrored::Different
        };
        wait_for_count(&proxy, result, 1);
        let samples = meter(&proxy).samples();
        let told: Vec<String> = samples
            .iter()
            .flat_map(|sample| &sample.differences)
            .map(|one| format!("{}: {} {}", one.what, one.baseline, one.canary))
            .collect();
        assert_eq!(told, expected, "{compare}");
        for sample in samples {
            assert_eq!(
                (sample.method.as_str(), sample.path.as_str()),
                ("GET", "/a")
            );
            assert_eq!(sample.endpoint, new.address().to_string());
            let id = sample.request_id.expect("an id");
            assert!(new.last_head().contains(&id) && base.last_head().contains(&id));
        }
    };
    let (one, two) = (
        "{\"id\": 1, \"items\": [{\"at\": 1, \"x\": 1}]}",
        "{\"items\":[{\"x\":1.0,\"at\":2}],\"id\":2}",
    );
    let ignore = "compare = { json = { ignore = [\"/id\", \"/items/*/at\"] } }";
    check(ignore, typed(json, one), typed(json, two), &[]);
    check(
        "compare = {}",
        typed(json, one),
        typed(json, two),
        &["json /id: 1 2", "json /items/0/at: 1 2"],
    );
    check(
        "compare = {}",
        typed("text/plain", "one"),
        typed("text/html", "onx"),
        &[
            "header content-type: text/plain text/html",
            "body: 3 bytes, from 0 on: one 3 bytes, from 0 on: onx",
        ],
    );
    let failing = typed(json, one).replace("200 OK", "503 No");
    check(
        "compare = { body = false, headers = [] }",
        typed(json, two),
        failing.clone(),
        &["status: 200 503"],
    );
    check(
        "compare = { status = false, headers = [\"x\"], body = false }",
        typed(json, two),
        failing,
        &[],
    );
}

#[test]
fn a_baseline_answer_that_is_too_large_is_not_compared() {
    let large = reply(&"x".repeat(4096));
    let (base, new) = (
        Upstream::answering(large),
        Upstream::answering(reply("new")),
    );
    let proxy = mirrored(&base, &new, &format!("{COMPARE}\nmax_body = \"4095B\""));
    assert_eq!(proxy.ask(GET).body.len(), 4096);
    wait_for_count(&proxy, Mirrored::TooLarge, 1);
    assert_eq!(new.requests(), 0);
    // Where nobody looks at the bodies their size is no matter.
    let head = "share = \"100%\"\nmax_body = \"4095B\"\ncompare = { body = false }";
    let proxy = mirrored(&base, &new, head);
    proxy.ask(GET);
    wait_for_count(&proxy, Mirrored::Same, 1);
}

#[test]
fn the_last_differences_are_kept_and_no_more_than_asked_for() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    for (samples, kept) in [(3, vec!["/7", "/6", "/5"]), (0, Vec::new())] {
        let mirror = format!("share = \"100%\"\ncompare = {{ samples = {samples} }}");
        let proxy = mirrored(&base, &new, &mirror);
        for nth in 0..8 {
            proxy.ask(&GET.replace("/a?b=c", &format!("/{nth}")));
            wait_for_count(&proxy, Mirrored::Different, nth + 1);
        }
        let paths = meter(&proxy)
            .samples()
            .into_iter()
            .map(|sample| sample.path);
        assert_eq!(paths.collect::<Vec<_>>(), kept);
    }
}

#[test]
fn streams_and_other_protocols_are_not_copied() {
    let events =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 2\r\n\r\nhi";
    let (base, new) = (
        Upstream::answering(events),
        Upstream::answering(reply("new")),
    );
    let proxy = mirrored(
        &base,
        &new,
        "share = \"100%\"\nmethods = [\"GET\", \"POST\"]",
    );
    assert_eq!(proxy.ask(GET).text(), "hi");
    wait_for_count(&proxy, Mirrored::Dropped, 1);
    let upgrade = GET.replace("\r\n\r\n", "\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    assert_eq!(proxy.ask(&upgrade).text(), "hi");
    let call = "POST /s/m HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";
    proxy.ask(call);
    assert_eq!((drawn(&proxy), new.requests()), (1, 0));
}

#[test]
fn a_learner_who_leaves_is_not_copied() {
    let large = reply(&"x".repeat(8 << 20));
    let (base, new) = (
        Upstream::answering(large),
        Upstream::answering(reply("new")),
    );
    let proxy = mirrored(&base, &new, "share = \"100%\"");
    let mut client = proxy.client();
    client.send(GET);
    client.head();
    client.leave();
    wait_for_count(&proxy, Mirrored::Dropped, 1);
    assert_eq!(new.requests(), 0);
}

#[test]
fn a_full_canary_is_left_to_its_learners() {
    let (new, tell) = hanging();
    let base = Upstream::answering(reply("base"));
    let text = rollout(
        &[base.address()],
        &[new.address()],
        "[rollouts.r.mirror]\nshare = \"100%\"",
    );
    let text = text.replace("[pools.new]", "[pools.new]\noverload = { in_flight = 1 }");
    let mut proxy = Proxy::start("", &text);
    proxy.set_weight("100%");
    let mut learner = proxy.client();
    learner.send(GET);
    wait_for("the learner's request", || new.requests() == 1);
    proxy.set_weight("0%");
    assert_eq!(proxy.ask(GET).text(), "base");
    wait_for_count(&proxy, Mirrored::Dropped, 1);
    tell.send(()).expect("upstream listens");
    assert_eq!(learner.answer().text(), "late");
    // A copy takes no place: a learner finds it free.
    proxy.ask(GET);
    wait_for("the copy", || new.requests() == 2);
    proxy.set_weight("100%");
    learner.send(GET);
    wait_for("the learner's request", || new.requests() == 3);
    for _ in 0..2 {
        tell.send(()).expect("upstream listens");
    }
    assert_eq!(learner.answer().text(), "late");
}

#[test]
fn a_canary_that_speaks_http2_gets_its_copies_as_streams() {
    let base = Upstream::answering(reply("new"));
    let new = FrameServer::answering(&[], b"new");
    let mirror = format!("[rollouts.r.mirror]\n{COMPARE}");
    let text = rollout(&[base.address()], &[new.address()], &mirror);
    let text = text.replace("[pools.new]", "[pools.new]\nprotocol = \"h2c\"");
    let proxy = opened(Proxy::start("", &text));
    for many in 1..=3 {
        assert_eq!(proxy.ask(GET).text(), "new");
        wait_for_count(&proxy, Mirrored::Same, many);
    }
    assert_eq!(new.connections(), 1);
}

#[test]
fn a_changed_mirror_applies_at_once() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let text = |mirror: &str| rollout(&[base.address()], &[new.address()], mirror);
    let mut proxy = opened(Proxy::start("", &text("")));
    let reload = |proxy: &mut Proxy, mirror: &str| {
        let config = config("", &text(mirror));
        let before = proxy.live.load();
        let table = Table::build(
            &config,
            &Default::default(),
            &proxy.telemetry,
            Some(&before),
        );
        drop(before);
        proxy.live.publish(table);
        proxy.set_weight("0%");
    };
    proxy.ask(GET);
    assert_eq!(drawn(&proxy), 0);
    reload(&mut proxy, "[rollouts.r.mirror]\nshare = \"100%\"");
    proxy.ask(GET);
    wait_for_count(&proxy, Mirrored::Answered, 1);
    reload(&mut proxy, &format!("[rollouts.r.mirror]\n{COMPARE}"));
    proxy.ask(GET);
    wait_for_count(&proxy, Mirrored::Different, 1);
    reload(&mut proxy, "");
    proxy.ask(GET);
    assert_eq!(drawn(&proxy), 2);
}

#[test]
fn copies_of_many_learners_at_once_are_all_counted() {
    let (base, new) = (
        Upstream::answering(reply("same")),
        Upstream::answering(reply("same")),
    );
    let proxy = mirrored(&base, &new, &format!("{COMPARE}\nin_flight = 8"));
    thread::scope(|scope| {
        for learner in 0..8 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut client = proxy.client();
                for _ in 0..50 {
                    client.send(&GET.replace("id: l", &format!("id: {learner}")));
                    assert_eq!(client.answer().text(), "same");
                }
            });
        }
    });
    wait_for("all of them", || drawn(&proxy) == 400);
    assert_eq!(
        count(&proxy, Mirrored::Same) + count(&proxy, Mirrored::Dropped),
        400
    );
    assert!(count(&proxy, Mirrored::Same) >= 8 && meter(&proxy).in_flight() == 0);
}
