//! What is sent again, where, how often; and who is left out for failing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serin::clock;

use crate::support::{Proxy, Upstream, closed, hole, only, pool, reply, rest, rollout, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\ncontent-length: 2\r\n\r\nhi";

// Reads a request and breaks off.
fn resetting() -> Upstream {
    Upstream::scripted(|mut exchange| {
        exchange.request();
        exchange.close();
    })
}

fn hanging() -> Upstream {
    Upstream::scripted(|mut exchange| _ = exchange.end())
}

#[test]
fn what_was_sent_goes_again_only_where_that_is_safe() {
    let (sick, good) = (resetting(), Upstream::answering(reply("good")));
    let text = only(&[sick.address(), good.address()], "ejection = false");
    let proxy = Proxy::start("", &text);
    for _ in 0..4 {
        assert_eq!(proxy.ask(GET).text(), "good");
    }
    assert_eq!(sick.requests(), 2, "every other turn");
    assert_eq!(proxy.attempts("base", "retry", "ok"), 2);
    let posts: Vec<u16> = (0..4).map(|_| proxy.ask(POST).status).collect();
    assert_eq!(posts.iter().filter(|status| **status == 502).count(), 2);
    assert_eq!(sick.requests() + good.requests(), 6 + 4, "no POST twice");

    let idempotent = text.replace("pool = \"base\"", "pool = \"base\"\nidempotent = true");
    let proxy = Proxy::start("", &idempotent);
    let keyed = POST.replace("content-length", "idempotency-key: k\r\ncontent-length");
    for request in [POST, POST, &keyed, &keyed] {
        assert_eq!(proxy.ask(request).text(), "good");
    }
}

#[test]
fn a_body_is_sent_again_up_to_64_kib() {
    let (sick, good) = (resetting(), Upstream::answering(reply("good")));
    let proxy = Proxy::start(
        "",
        &only(&[sick.address(), good.address()], "ejection = false"),
    );
    let put = |len: usize| {
        let body = "x".repeat(len);
        let head = format!("PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: {len}\r\n\r\n");
        [
            proxy.ask(&format!("{head}{body}")),
            proxy.ask(&format!("{head}{body}")),
        ]
    };
    assert!(put(64 * 1024).iter().all(|answer| answer.status == 200));
    let over = put(64 * 1024 + 1);
    let failed = over.iter().filter(|answer| answer.status == 502);
    assert_eq!(failed.count(), 1, "a byte more is not kept");
}

#[test]
fn an_attempt_ends_early_where_another_can_follow() {
    let (slow, good) = (hanging(), Upstream::answering(reply("good")));
    let more = "ejection = false\nretries = { attempts = 1, per_try = \"200ms\" }\n\
                timeouts = { answer_head = \"900ms\" }";
    let proxy = Proxy::start("", &only(&[slow.address(), good.address()], more));
    let begin = clock::now();
    for _ in 0..2 {
        assert_eq!(proxy.ask(GET).text(), "good");
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_millis(800), "{took:?}");

    let alone = Proxy::start("", &only(&[slow.address()], more));
    let begin = clock::now();
    assert_eq!(alone.ask(GET).status, 504);
    assert!(
        begin.elapsed() >= Duration::from_millis(900),
        "nobody else can answer"
    );
    assert_eq!(
        alone.attempts("base", "", ""),
        1,
        "and nobody is asked twice"
    );

    let more = format!("{more}\nejection = false").replacen("ejection = false\n", "", 1);
    let both = [slow.address(), hanging().address()];
    let hurried = more.replace("answer_head = \"900ms\"", "request = \"150ms\"");
    let proxy = Proxy::start("", &only(&both, &hurried));
    let begin = clock::now();
    assert_eq!(proxy.ask(GET).status, 504);
    assert!(
        begin.elapsed() < Duration::from_millis(400),
        "its time was up"
    );
    assert_eq!(proxy.attempts("base", "", ""), 1);
}

#[test]
fn retries_stay_within_their_budget() {
    let (one, other) = (resetting(), resetting());
    let more = "ejection = false\nretries = { attempts = 3 }";
    let proxy = Proxy::start("", &only(&[one.address(), other.address()], more));
    let begin = clock::now();
    for _ in 0..100 {
        assert_eq!(proxy.ask(GET).header("x-serin-error"), Some("reset"));
    }
    let retries = proxy.attempts("base", "retry", "") as f64;
    // A fifth of the requests, ten a second, and what the bucket held.
    let most = 20.0 + 10.0 * begin.elapsed().as_secs_f64() + 10.0;
    assert!(retries <= most && retries >= 10.0, "{retries} of {most}");
    assert!(proxy.metric("serin_retries_refused_total", &[]) > 0);
}

#[test]
fn what_was_not_sent_needs_no_budget() {
    let good = Upstream::answering(reply("good"));
    let more = "ejection = false\nretries = { budget = \"0%\" }";
    let proxy = Proxy::start("", &only(&[closed(), good.address()], more));
    for _ in 0..60 {
        assert_eq!(proxy.ask(POST).text(), "good");
    }
    assert_eq!(proxy.attempts("base", "retry", "ok"), 30);
}

#[test]
fn an_endpoint_that_fails_is_left_out_and_tried_again() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let sick = Upstream::scripted(move |mut exchange| {
        while exchange.request().is_some() && well.load(Ordering::SeqCst) {
            exchange.write(&reply("well"));
        }
        exchange.close();
    });
    let good = Upstream::answering(reply("good"));
    let more = "slow_start = \"0s\"\n\
                ejection = { consecutive = 3, time_out = \"300ms\", max_time_out = \"1s\" }";
    let proxy = Proxy::start("", &only(&[sick.address(), good.address()], more));
    let out = || proxy.live.load().pools()[0].endpoints[0].ejected.clone();
    for _ in 0..5 {
        assert_eq!(proxy.ask(GET).text(), "good");
    }
    let ejected = out().expect("three in a row");
    assert_eq!(
        (ejected.kind, &*ejected.reason),
        ("consecutive", "3 failures in a row")
    );
    assert!(ejected.left <= Duration::from_millis(300));
    let seen = sick.requests();
    proxy.ask(GET);
    proxy.ask(GET);
    assert_eq!(sick.requests(), seen);

    wait_for("its return", || out().is_none());
    // One more failure is enough now, for twice as long.
    wait_for("its second time out", || {
        assert_eq!(proxy.ask(GET).text(), "good");
        out().is_some()
    });
    assert_eq!(sick.requests(), seen + 1);
    assert!(out().is_some_and(|out| out.left > Duration::from_millis(300)));
    assert_eq!(proxy.live.load().pools()[0].endpoints[0].ejections, 2);

    is_well.store(true, Ordering::SeqCst);
    wait_for("an answer of it", || proxy.ask(GET).text() == "well");
    assert_eq!(out(), None);
}

#[test]
fn an_endpoint_that_answers_is_ejected_only_where_5xx_count() {
    let failing = Upstream::answering("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n");
    let good = Upstream::answering(reply("good"));
    let at = [failing.address(), good.address()];
    let proxy = Proxy::start("", &only(&at, ""));
    let sick = |proxy: &Proxy| (0..40).filter(|_| proxy.ask(GET).status == 500).count();
    assert_eq!(sick(&proxy), 20, "by default an answer is an answer");
    let proxy = Proxy::start("", &only(&at, "ejection = { on = [\"5xx\"] }"));
    assert_eq!(sick(&proxy), 5);
}

#[test]
fn half_of_a_pool_stays_but_a_canary_may_go_whole() {
    let base = Upstream::answering(reply("base"));
    let new = resetting();
    let more = "ejection = { consecutive = 2 }";
    let text = rollout(&[base.address()], &[new.address()], "").replace(
        &pool("new", &[new.address()], ""),
        &pool("new", &[new.address()], more),
    );
    let mut proxy = Proxy::start("", &text);
    proxy.set_weight("100%");
    for _ in 0..5 {
        assert_eq!(proxy.ask(GET).text(), "base");
    }
    assert_eq!(
        new.requests(),
        2,
        "then it is out, and baseline answers at once"
    );
    assert_eq!(proxy.arm("canary", "failed"), 5, "it counts all the same");

    let alone = Proxy::start("", &only(&[new.address()], more));
    for _ in 0..5 {
        assert_eq!(alone.ask(POST).header("x-serin-error"), Some("reset"));
    }
    assert_eq!(new.requests(), 7, "there is nobody else");
}

#[test]
fn a_post_takes_no_connection_that_has_just_answered_or_was_idle_for_more_than_a_second() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    assert_eq!(proxy.ask(POST).status, 200);
    rest();
    assert_eq!(proxy.ask(POST).status, 200);
    assert_eq!(upstream.connections(), 1, "neither too fresh nor too old");
    let begin = clock::now();
    wait_for("more than a second", || {
        begin.elapsed() > Duration::from_millis(1100)
    });
    assert_eq!(proxy.ask(GET).status, 200);
    assert_eq!(upstream.connections(), 1, "a GET may be sent again");
    let begin = clock::now();
    wait_for("more than a second", || {
        begin.elapsed() > Duration::from_millis(1100)
    });
    assert_eq!(proxy.ask(POST).status, 200);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn an_endpoint_that_takes_no_connection_costs_one_connect_timeout_and_is_left_out() {
    let (address, _queue) = hole();
    let good = Upstream::answering(reply("good"));
    let more = "timeouts = { connect = \"200ms\" }\nejection = { consecutive = 3 }";
    let proxy = Proxy::start("", &only(&[address, good.address()], more));
    for _ in 0..10 {
        let begin = clock::now();
        // Nothing was sent, so that a POST may go elsewhere.
        assert_eq!(proxy.ask(POST).text(), "good");
        assert!(begin.elapsed() < Duration::from_millis(400));
    }
    assert_eq!(proxy.attempts("base", "first", "failed"), 3);
    let out = proxy.live.load().pools()[0].endpoints[0].ejected.clone();
    assert!(out.is_some(), "three in a row");
}
