//! Who goes where, what is sent again, and what is counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serin::rollout::assign::Split;
use serin::rollout::weight::Weight;

use crate::support::{
    Client, Proxy, Upstream, closed, config, only, pool, reply, rest, rollout, wait_for,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\ncontent-length: 2\r\n\r\nhi";

fn pair(canary: &Upstream) -> (Upstream, Proxy) {
    pair_at(canary.address(), "")
}

// A rollout with everybody on canary, whose baseline answers `base`.
fn pair_at(canary: SocketAddr, more: &str) -> (Upstream, Proxy) {
    let base = Upstream::answering(reply("base"));
    let mut proxy = Proxy::start("", &rollout(&[base.address()], &[canary], more));
    proxy.set_weight("100%");
    (base, proxy)
}

#[test]
fn learners_go_where_the_independent_hash_puts_them() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../data/assignment_vectors.json")).expect("JSON");
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let mut text = pool("base", &[base.address()], "") + &pool("new", &[new.address()], "");
    let vectors: Vec<_> = vectors["vectors"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    let carried: Vec<_> = vectors
        .into_iter()
        .filter(|vector| vector["key"] != "")
        .collect();
    assert!(carried.len() >= 5);
    for (index, vector) in carried.iter().enumerate() {
        text += &format!(
            "[[routes]]\nhost = \"h{index}\"\nrollout = \"r{index}\"\n[rollouts.r{index}]\nbaseline = \"base\"\n\
             canary = \"new\"\nlearner = [\"header:x-learner-id\"]\nsalt = {}\n[[rollouts.r{index}.stages]]\n\
             name = \"s\"\nweight = \"1%\"\nduration = \"1h\"\n",
            vector["salt"],
        );
    }
    let mut proxy = Proxy::start("", &text);
    for (index, vector) in carried.iter().enumerate() {
        let bucket = u32::try_from(vector["bucket_1e6"].as_u64().expect("a bucket"))
            .expect("below a million");
        let key = vector["key"].as_str().expect("a key");
        let request = format!("GET / HTTP/1.1\r\nhost: h{index}\r\nx-learner-id:  {key} \r\n\r\n");
        for (ppm, expected) in [
            (bucket, "base"),
            (bucket + 1, "new"),
            (bucket, "base"),
            (0, "base"),
            (1_000_000, "new"),
        ] {
            let weight = Weight::from_ppm(ppm).expect("a weight");
            proxy.publish(&format!("r{index}"), |split| Split {
                weight,
                closed: false,
                ..split
            });
            assert_eq!(proxy.ask(&request).text(), expected, "{key} at {ppm} ppm");
        }
    }
}

#[test]
fn the_next_request_of_a_kept_connection_goes_by_the_new_weight() {
    let new = Upstream::answering(reply("new"));
    let (_base, mut proxy) = pair(&new);
    let mut client = proxy.client();
    for (weight, expected) in [
        ("100%", "new"),
        ("0%", "base"),
        ("100%", "new"),
        ("0%", "base"),
    ] {
        proxy.set_weight(weight);
        client.send(GET);
        assert_eq!(client.answer().text(), expected);
    }
}

#[test]
fn only_a_trusted_peer_may_choose_its_pool() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let text = rollout(&[base.address()], &[new.address()], "");
    let forced = "GET / HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\nx-serin-pool: new\r\n\r\n";
    for (server, expected, counted) in [("", "base", 1), ("trusted = [\"127.0.0.0/8\"]", "new", 0)]
    {
        let mut proxy = Proxy::start(server, &text);
        proxy.set_weight("0%");
        assert_eq!(proxy.ask(forced).text(), expected, "{server}");
        assert_eq!(proxy.arms(), counted, "forced requests enter no arm figure");
        let seen = if expected == "new" {
            new.last_head()
        } else {
            base.last_head()
        };
        assert!(!seen.contains("x-serin-pool"), "{seen}");
    }
}

#[test]
fn pinned_learners_enter_no_arm_figure() {
    use serin::rollout::name::Arm;
    let new = Upstream::answering(reply("new"));
    let (_base, mut proxy) = pair(&new);
    let pins = Arc::new([(b"a".as_slice().into(), Arm::Canary)].into());
    proxy.publish("r", |split| Split {
        closed: false,
        pins,
        ..split
    });
    assert_eq!(proxy.ask(GET).text(), "new");
    assert_eq!(proxy.ask(&GET.replace("id: a", "id: b")).text(), "base");
    assert_eq!(
        (proxy.arm("canary", "ok"), proxy.arm("baseline", "ok")),
        (0, 1)
    );
    assert_eq!(proxy.attempts("new", "first", "ok"), 1);
}

#[test]
fn a_failing_canary_costs_learners_nothing_and_is_counted() {
    let check = |status: &str, class: &str| {
        let new = Upstream::answering(format!(
            "HTTP/1.1 {status} X\r\ncontent-length: 3\r\n\r\nbad"
        ));
        let (_base, proxy) = pair(&new);
        let answer = proxy.ask(GET);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "base"),
            "{status}"
        );
        assert_eq!(proxy.arm("canary", class), 1, "{status}");
        assert_eq!(proxy.arms(), 1, "exactly one arm outcome");
        assert_eq!(proxy.attempts("new", "first", class), 1);
        assert_eq!(proxy.attempts("base", "failover", "ok"), 1);

        let answer = proxy.ask(POST);
        assert_eq!(
            (answer.status.to_string().as_str(), answer.text().as_str()),
            (status, "bad")
        );
        assert_eq!(
            proxy.arm("canary", class),
            2,
            "a POST that was sent is not sent again"
        );
    };
    check("500", "error");
    check("503", "failed");
}

#[test]
fn a_canary_that_refuses_connections_is_routed_around_whatever_the_method() {
    let (base, proxy) = pair_at(closed(), "");
    for request in [GET, POST] {
        assert_eq!(proxy.ask(request).text(), "base");
    }
    assert_eq!(base.requests(), 2);
    assert_eq!((proxy.arm("canary", "failed"), proxy.arms()), (2, 2));
    assert_eq!(proxy.attempts("base", "failover", "ok"), 2);
}

#[test]
fn a_canary_without_a_usable_endpoint_is_failover_too() {
    let new = Upstream::answering(reply("new"));
    let (_base, proxy) = pair(&new);
    let name = serin::rollout::name::PoolName::parse("new").expect("a name");
    assert!(
        proxy
            .live
            .load()
            .set_drained(&name, &new.address().to_string(), true)
    );
    assert_eq!(proxy.ask(POST).text(), "base");
    assert_eq!((proxy.arm("canary", "failed"), new.requests()), (1, 0));
}

#[test]
fn a_canary_that_breaks_off_or_hangs_fails_over_only_where_that_is_safe() {
    let resetting = Upstream::scripted(|mut exchange| {
        exchange.request();
        exchange.close();
    });
    let (_base, proxy) = pair(&resetting);
    assert_eq!(proxy.ask(GET).text(), "base");
    let answer = proxy.ask(POST);
    assert_eq!(
        (answer.status, answer.header("x-serin-error")),
        (502, Some("reset"))
    );
    assert_eq!((proxy.arm("canary", "failed"), proxy.arms()), (2, 2));

    let hanging = Upstream::scripted(|mut exchange| _ = exchange.end());
    let (_base, proxy) = pair(&hanging);
    assert_eq!(proxy.ask(GET).text(), "base", "after failover_after");
    assert_eq!((proxy.arm("canary", "failed"), proxy.arms()), (1, 1));
    let timed = proxy.metric("serin_rollout_latency_seconds_count", &["canary"]);
    assert_eq!(timed, 1, "a timeout is recorded at the timeout");
}

#[test]
fn failover_can_be_switched_off_kind_by_kind() {
    let failing = Upstream::answering("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n");
    let (_base, proxy) = pair_at(failing.address(), "failover = [\"connect\"]");
    assert_eq!(proxy.ask(GET).status, 500);
    let (_base, proxy) = pair_at(closed(), "failover = [\"5xx\"]");
    let answer = proxy.ask(GET);
    assert_eq!(
        (answer.status, answer.header("x-serin-error")),
        (502, Some("connect_failed"))
    );
}

#[test]
fn a_replayed_body_arrives_whole() {
    let new = Upstream::answering("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n");
    let (sent, bodies) = mpsc::channel();
    let base = Upstream::scripted(move |mut exchange| {
        while let Some((_, body)) = exchange.request() {
            sent.send(body).expect("the test listens");
            exchange.write(&reply("base"));
        }
    });
    let mut proxy = Proxy::start("", &rollout(&[base.address()], &[new.address()], ""));
    proxy.set_weight("100%");
    let body = "x".repeat(60_000);
    let put = |body: &str| {
        format!(
            "PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    assert_eq!(proxy.ask(&put(&body)).text(), "base");
    assert_eq!(bodies.recv().expect("a body"), body.as_bytes());
    assert_eq!(
        proxy.ask(&put(&"x".repeat(70_000))).status,
        500,
        "too large to be kept"
    );
    let chunked = format!(
        "PUT / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n11170\r\n{}\r\n5\r\nlater\r\n0\r\n\r\n",
        "x".repeat(70_000)
    );
    assert_eq!(proxy.ask(&chunked).status, 500, "larger than it said");
    assert_eq!(base.requests(), 1, "never a part of a body");
}

#[test]
fn weights_change_under_load_without_a_failed_request() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let mut config = config("", &rollout(&[base.address()], &[new.address()], ""));
    config.server.workers = 4;
    let mut proxy = Proxy::start_with(&config);
    proxy.set_weight("50%");
    let (address, done) = (proxy.address(), AtomicBool::new(false));
    let load = &|learner: usize| {
        let mut client = Client::connect(address);
        let mut answered = 0_u64;
        while !done.load(Ordering::SeqCst) {
            client.send(&GET.replace("id: a", &format!("id: {learner}-{answered}")));
            assert_eq!(client.answer().status, 200);
            answered += 1;
        }
        answered
    };
    let answered: u64 = thread::scope(|scope| {
        let loads: Vec<_> = (0..8)
            .map(|learner| scope.spawn(move || load(learner)))
            .collect();
        let end = EndLoad(&done);
        for turn in 0..300 {
            let (weight, expected) = [("0%", "base"), ("100%", "new")][turn % 2];
            proxy.set_weight(weight);
            assert_eq!(proxy.ask(GET).text(), expected, "turn {turn}");
        }
        drop(end);
        loads
            .into_iter()
            .map(|load| load.join().expect("every request was answered"))
            .sum()
    });
    assert!(answered > 100, "{answered} requests are no load");
    assert_eq!(
        proxy.arm("baseline", "ok") + proxy.arm("canary", "ok"),
        answered + 300
    );
    assert_eq!(
        proxy.arms(),
        answered + 300,
        "one outcome each, and no other"
    );
}

/// Ends the load when the test ends, by a failure too.
struct EndLoad<'a>(&'a AtomicBool);

impl Drop for EndLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn what_was_not_sent_goes_to_another_endpoint() {
    let alive = Upstream::answering(reply("alive"));
    let proxy = Proxy::start("", &only(&[closed(), alive.address()], ""));
    for _ in 0..6 {
        assert_eq!(proxy.ask(POST).text(), "alive");
    }
    assert_eq!(
        proxy.attempts("base", "first", "failed"),
        3,
        "every other turn"
    );
    assert_eq!(proxy.attempts("base", "retry", "ok"), 3);
    let alone = Proxy::start("", &only(&[closed()], "retries = { attempts = 0 }"));
    assert_eq!(
        alone.ask(GET).header("x-serin-error"),
        Some("connect_failed")
    );
}

#[test]
fn a_connection_that_died_idle_costs_nothing() {
    // Answers one request per connection, and closes when the second one arrives.
    let closing = || {
        Upstream::scripted(|mut exchange| {
            if exchange.request().is_some() {
                exchange.write(&reply("first"));
                exchange.request();
            }
            exchange.close();
        })
    };
    let upstream = closing();
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    assert_eq!(proxy.ask(GET).text(), "first");
    assert_eq!(
        proxy.ask(GET).text(),
        "first",
        "sent again on a fresh connection"
    );
    assert_eq!(upstream.connections(), 2);
    assert_eq!(proxy.attempts("base", "first", "ok"), 2);
    assert_eq!(
        proxy.attempts("base", "", "failed"),
        0,
        "not counted against the pool"
    );
    assert_eq!(proxy.metric("serin_stale_connections_total", &[]), 1);

    let upstream = closing();
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    assert_eq!(proxy.ask(POST).text(), "first");
    rest();
    assert_eq!(
        proxy.ask(POST).header("x-serin-error"),
        Some("reset"),
        "a POST may have been carried out"
    );
    let keyed = POST.replace("content-length", "idempotency-key: k\r\ncontent-length");
    assert_eq!(proxy.ask(&keyed).text(), "first");
    assert_eq!(
        proxy.ask(&keyed).text(),
        "first",
        "its client vouches for it"
    );
}

#[test]
fn idle_connections_are_used_again() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    for _ in 0..20 {
        assert_eq!(proxy.ask(GET).status, 200);
    }
    assert_eq!((upstream.connections(), upstream.requests()), (1, 20));
}

#[test]
fn no_canary_attempt_begins_after_a_retreat() {
    // The canary's kept connection dies under a request, and meanwhile the weight was taken back.
    let (asked, requests) = mpsc::channel();
    let (go, proceed) = mpsc::channel::<()>();
    let proceed = std::sync::Mutex::new(proceed);
    let new = Upstream::scripted(move |mut exchange| {
        exchange.request();
        exchange.write(&reply("new"));
        if exchange.request().is_some() {
            asked.send(()).expect("the test listens");
            proceed
                .lock()
                .expect("one thread")
                .recv()
                .expect("the test speaks");
        }
        exchange.close();
    });
    let (_base, mut proxy) = pair(&new);
    assert_eq!(proxy.ask(GET).text(), "new");
    let mut client = proxy.client();
    client.send(GET);
    requests.recv().expect("canary was asked");
    proxy.publish("r", |split| split);
    go.send(()).expect("canary waits");
    assert_eq!(client.answer().text(), "base");
    assert_eq!(new.connections(), 1);
    assert_eq!(
        (
            proxy.arm("canary", "ok"),
            proxy.arm("baseline", "ok"),
            proxy.arms()
        ),
        (1, 1, 2),
        "it counts where its first attempt began"
    );
}

#[test]
fn clients_who_leave_are_counted_by_how_long_they_waited() {
    let hanging = Upstream::scripted(|mut exchange| _ = exchange.end());
    // Without failover nothing ends the wait but the client.
    let (_base, proxy) = pair_at(hanging.address(), "failover = []");
    let mut early = proxy.client();
    early.send(GET);
    wait_for("the request", || hanging.connections() == 1);
    early.leave();
    wait_for("an early leaver", || proxy.arm("canary", "abandoned") == 1);

    let mut late = proxy.client();
    late.send(GET);
    let begin = serin::clock::now();
    wait_for("patience to end", || {
        begin.elapsed() > Duration::from_millis(150)
    });
    late.leave();
    wait_for("a late leaver", || proxy.arms() == 2);
    assert_eq!(
        (
            proxy.arm("canary", "abandoned"),
            proxy.arm("canary", "abandoned_late")
        ),
        (1, 1)
    );
}

#[test]
fn statuses_and_broken_bodies_count_as_they_should() {
    let check = |answer: &'static str, outcome: &str| {
        let new = Upstream::scripted(move |mut exchange| {
            exchange.request();
            exchange.write(answer);
            exchange.close();
        });
        let (_base, proxy) = pair_at(new.address(), "failover = []\nerror_statuses = [418]");
        let mut client = proxy.client();
        client.send(&GET.replace("host: h", "host: h\r\nconnection: close"));
        client.rest();
        assert_eq!(
            (proxy.arm("canary", outcome), proxy.arms()),
            (1, 1),
            "{answer}"
        );
    };
    check(
        "HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "client_error",
    );
    check(
        "HTTP/1.1 418 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "error",
    );
    check(
        "HTTP/1.1 502 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "failed",
    );
    check(
        "HTTP/1.1 200 X\r\ncontent-length: 9\r\nconnection: close\r\n\r\nshort",
        "failed",
    );
    check(
        "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "failed",
    );
    check("HTTP/9.9 what\r\n\r\n", "failed");
    check(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "failed",
    );
}
