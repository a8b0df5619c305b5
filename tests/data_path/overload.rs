//! Limits of requests under way: who waits, who is turned away, and what the limit learns.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serin::clock;

use crate::support::{Client, Proxy, Upstream, only, pool, reply, rollout, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\n\r\n";

fn asking(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send(GET);
    client
}

#[test]
fn who_is_over_the_limit_waits_in_order_and_the_rest_are_turned_away() {
    for (server, more) in [
        (
            "overload = { in_flight = 1, queued = 1, wait = \"5s\" }",
            "",
        ),
        (
            "",
            "overload = { in_flight = 1, queued = 1, wait = \"5s\" }",
        ),
    ] {
        let (upstream, go) = Upstream::told();
        let proxy = Proxy::start(server, &only(&[upstream.address()], more));
        let mut first = asking(&proxy);
        wait_for("the first request", || upstream.requests() == 1);
        let mut second = asking(&proxy);
        // The queue is seen to be full by the third, which is turned away at once.
        let mut third = asking(&proxy);
        let mut turned_away = None;
        wait_for("somebody to be turned away", || {
            turned_away = [&mut second, &mut third]
                .into_iter()
                .position(|client| !client.is_silent());
            turned_away.is_some()
        });
        let (away, waits) = match turned_away {
            Some(0) => (&mut second, &mut third),
            _ => (&mut third, &mut second),
        };
        let answer = away.answer();
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (503, Some("overloaded"))
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(upstream.requests(), 1, "who waits was not sent");
        go.send(()).expect("it waits");
        go.send(()).expect("it waits");
        assert_eq!((first.answer().status, waits.answer().status), (200, 200));
        assert_eq!(
            proxy.metric("serin_answers_total", &["reason=\"overloaded\""]),
            1
        );
    }
}

#[test]
fn who_leaves_the_queue_has_waited_for_his_arm() {
    let (upstream, go) = Upstream::told();
    let tight = "overload = { in_flight = 1, queued = 5, wait = \"60s\" }";
    let rest = rollout(&[upstream.address()], &[upstream.address()], "");
    let rest = rest.replacen("[pools.new]", &format!("[pools.new]\n{tight}"), 1);
    let mut proxy = Proxy::start("", &rest);
    proxy.set_weight("100%");
    let mut first = asking(&proxy);
    wait_for("the first request", || upstream.requests() == 1);
    let leaving = asking(&proxy);
    wait_for("somebody in the queue", || {
        proxy
            .live
            .load()
            .pools()
            .iter()
            .any(|pool| pool.queued == 1)
    });
    leaving.leave();
    wait_for("his outcome", || proxy.arm("canary", "abandoned") == 1);
    go.send(()).expect("it waits");
    assert_eq!(first.answer().status, 200);
    assert_eq!(proxy.arms(), 2);
}

#[test]
fn who_waits_too_long_is_turned_away_and_leaves_the_queue() {
    let (upstream, go) = Upstream::told();
    let more = "overload = { in_flight = 1, queued = 5, wait = \"200ms\" }";
    let proxy = Proxy::start("", &only(&[upstream.address()], more));
    let mut first = asking(&proxy);
    wait_for("the first request", || upstream.requests() == 1);
    let begin = clock::now();
    let answer = proxy.ask(GET);
    assert_eq!(answer.header("x-serin-error"), Some("overloaded"));
    assert!(begin.elapsed() >= Duration::from_millis(200));
    let queued = || proxy.live.load().pools()[0].queued;
    assert_eq!(queued(), 0);
    let leaving = asking(&proxy);
    wait_for("somebody in the queue", || queued() == 1);
    leaving.leave();
    wait_for("an empty queue", || queued() == 0);
    go.send(()).expect("it waits");
    assert_eq!(first.answer().status, 200);
}

#[test]
fn a_place_is_taken_to_the_end_of_the_answer() {
    let (go, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let upstream = Upstream::scripted(move |mut exchange| {
        while exchange.request().is_some() {
            exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na");
            told.lock()
                .expect("nobody panicked")
                .recv()
                .unwrap_or_default();
            exchange.write("b");
        }
    });
    for (server, more) in [
        ("overload = { in_flight = 1 }", ""),
        ("", "overload = { in_flight = 1 }"),
    ] {
        let proxy = Proxy::start(server, &only(&[upstream.address()], more));
        let mut first = asking(&proxy);
        first.head();
        assert_eq!(proxy.ask(GET).status, 503, "{server}{more}");
        go.send(()).expect("it waits");
        assert_eq!(first.exactly(2), b"ab");
        go.send(()).expect("it will wait");
        wait_for("a place", || proxy.ask(GET).status == 200);
    }
}

#[test]
fn a_canary_that_is_full_costs_learners_nothing() {
    let base = Upstream::answering(reply("base"));
    let (new, go) = Upstream::told();
    let text = rollout(&[base.address()], &[new.address()], "").replace(
        &pool("new", &[new.address()], ""),
        &pool("new", &[new.address()], "overload = { in_flight = 1 }"),
    );
    let mut proxy = Proxy::start("", &text);
    proxy.set_weight("100%");
    let mut first = asking(&proxy);
    wait_for("the first request", || new.requests() == 1);
    assert_eq!(proxy.ask(GET).text(), "base");
    assert_eq!(proxy.arm("canary", "failed"), 1, "it counts against canary");
    go.send(()).expect("it waits");
    first.answer();
}

#[test]
fn an_adaptive_limit_falls_when_answers_take_longer() {
    let delay = Arc::new(Mutex::new(Duration::ZERO));
    let told = Arc::clone(&delay);
    let upstream = Upstream::scripted(move |mut exchange| {
        let (_never, time) = mpsc::channel::<()>();
        while exchange.request().is_some() {
            let delay = *told.lock().expect("nobody panicked");
            time.recv_timeout(delay).unwrap_or_default();
            exchange.write(&reply("x"));
        }
    });
    let more = "overload = { in_flight = 16, adaptive = true, queued = 100, wait = \"5s\" }";
    let proxy = Proxy::start("", &only(&[upstream.address()], more));
    let limit = || proxy.live.load().pools()[0].limit;
    assert_eq!(limit(), 16);
    let mut clients: Vec<Client> = (0..16).map(|_| proxy.client()).collect();
    let mut round = || {
        clients.iter_mut().for_each(|client| client.send(GET));
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
    };
    *delay.lock().expect("nobody panicked") = Duration::from_millis(5);
    for _ in 0..40 {
        round();
    }
    // A machine that is busy elsewhere may have looked slow for a moment.
    wait_for("the whole limit, while nothing is wrong", || {
        round();
        limit() == 16
    });
    *delay.lock().expect("nobody panicked") = Duration::from_millis(60);
    wait_for("a lower limit", || {
        round();
        limit() < 12
    });
}
