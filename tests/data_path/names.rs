//! Endpoints by DNS, asked of a real name server (dnsmasq) whose answers change.

use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serin::shutdown::{self, Stage, Trigger, Watched};
use serin::upstream::upkeep;

use crate::support::certificates::Ca;
use crate::support::name_server::NameServer;
use crate::support::peers::Nginx;
use crate::support::{Client, Proxy, Upstream, reply, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

/// The upkeep of a proxy's pools.
struct Upkeep {
    trigger: Trigger,
    watched: Option<Watched>,
}

impl Upkeep {
    fn of(proxy: &Proxy) -> Self {
        let (trigger, shutdown) = shutdown::channel();
        let watched = upkeep::start(proxy.live.pools(), shutdown).expect("it starts");
        Self {
            trigger,
            watched: Some(watched),
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.trigger.advance(Stage::Stopped);
        if let Some(watched) = self.watched.take() {
            assert!(watched.join() || thread::panicking(), "it panicked");
        }
    }
}

// Upstreams on one port of several loopback addresses; each answers its address.
fn on_one_port(last: &[u8]) -> (u16, Vec<Upstream>) {
    let ip = |last: &u8| IpAddr::from([127, 0, 0, *last]);
    loop {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let listen = |last| TcpListener::bind((ip(last), port)).ok();
        let listeners: Option<Vec<_>> = last.iter().map(listen).collect();
        if let Some(listeners) = listeners {
            let upstream =
                |(listener, last)| Upstream::answering_on(listener, reply(&ip(last).to_string()));
            return (
                port,
                listeners.into_iter().zip(last).map(upstream).collect(),
            );
        }
    }
}

fn by_name(name: &str, server: &NameServer, more: &str) -> String {
    format!(
        "[pools.base]\ndns = {{ name = \"{name}\", servers = [\"{}\"] }}\nhealth = false\n{more}\n\
         [[routes]]\npath = \"/\"\npool = \"base\"\n",
        server.address()
    )
}

fn addresses(proxy: &Proxy) -> Vec<String> {
    let pools = proxy.live.load().pools();
    let endpoints = pools[0].endpoints.iter();
    endpoints.map(|endpoint| endpoint.address.clone()).collect()
}

#[test]
fn endpoints_follow_the_name_and_those_that_stay_keep_their_state() {
    let (port, _upstreams) = on_one_port(&[1, 2, 3]);
    let server = NameServer::start("127.0.0.1 app.test\n127.0.0.2 app.test\n", &[]);
    let proxy = Proxy::start("", &by_name(&format!("app.test:{port}"), &server, ""));
    let _upkeep = Upkeep::of(&proxy);
    // The first request waits for the first answer.
    assert_eq!(proxy.ask(GET).status, 200);
    let at = |last: u8| format!("127.0.0.{last}:{port}");
    assert_eq!(addresses(&proxy), [at(1), at(2)]);
    let name = serin::rollout::name::PoolName::parse("base").expect("a name");
    assert!(proxy.live.load().set_drained(&name, &at(1), true));

    server.set("127.0.0.1 app.test\n127.0.0.3 app.test\n");
    wait_for("the new address", || addresses(&proxy) == [at(1), at(3)]);
    let view = |index: usize| proxy.live.load().pools()[0].endpoints[index].clone();
    assert!(view(0).drained, "who stays keeps its state");
    assert!(view(1).warmth < 1.0, "who is new warms up");
    assert_eq!(proxy.ask(GET).text(), "127.0.0.3");
}

#[test]
fn changes_of_the_name_under_load_lose_no_request() {
    let (port, _upstreams) = on_one_port(&[1, 2, 3]);
    let hosts = |turn: usize| {
        let pair = [[1, 2], [2, 3], [3, 1]][turn % 3];
        let lines: String = pair
            .iter()
            .map(|last| format!("127.0.0.{last} app.test\n"))
            .collect();
        (pair, lines)
    };
    let server = NameServer::start(&hosts(0).1, &[]);
    let more = "slow_start = \"0s\"";
    let proxy = Proxy::start("", &by_name(&format!("app.test:{port}"), &server, more));
    let _upkeep = Upkeep::of(&proxy);
    let (address, done) = (proxy.address(), AtomicBool::new(false));
    let load = || {
        let mut client = Client::connect(address);
        while !done.load(Ordering::SeqCst) {
            client.send(GET);
            assert_eq!(client.answer().status, 200);
        }
    };
    thread::scope(|scope| {
        let clients = [scope.spawn(load), scope.spawn(load)];
        // A change takes a second, the shortest TTL there is.
        for turn in 1..=4 {
            let (mut pair, lines) = hosts(turn);
            pair.sort_unstable();
            server.set(&lines);
            let wanted = pair.map(|last| format!("127.0.0.{last}:{port}"));
            wait_for("the change", || addresses(&proxy) == wanted);
        }
        done.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().expect("every request was answered");
        }
    });
}

#[test]
fn a_service_says_ports_and_weights_and_its_lowest_priority_counts() {
    let upstreams = ["a", "b", "c"].map(|name| Upstream::answering(reply(name)));
    let [a, b, c] = upstreams
        .each_ref()
        .map(|upstream| upstream.address().port());
    let service = |port: u16, priority: u16, weight: u16| {
        format!("--srv-host=_http._tcp.app.test,node.test,{port},{priority},{weight}")
    };
    let services = [service(a, 1, 30), service(b, 1, 10), service(c, 2, 10)];
    let server = NameServer::start("127.0.0.1 node.test\n", &services);
    let proxy = Proxy::start("", &by_name("_http._tcp.app.test", &server, ""));
    let _upkeep = Upkeep::of(&proxy);
    for _ in 0..40 {
        assert_eq!(proxy.ask(GET).status, 200);
    }
    let [a, b, c] = upstreams.each_ref().map(Upstream::requests);
    assert_eq!((a, b, c), (30, 10, 0));
}

#[test]
fn a_name_that_is_lost_changes_nothing() {
    let (port, _upstreams) = on_one_port(&[1]);
    let server = NameServer::start("127.0.0.1 app.test\n", &[]);
    let proxy = Proxy::start("", &by_name(&format!("app.test:{port}"), &server, ""));
    let _upkeep = Upkeep::of(&proxy);
    assert_eq!(proxy.ask(GET).status, 200);
    let fault = || proxy.live.load().pools()[0].dns_fault.clone();
    assert_eq!(fault(), None);
    server.set("");
    wait_for("a failed look-up", || fault().is_some());
    assert_eq!(proxy.ask(GET).status, 200);
    server.set("127.0.0.1 app.test\n");
    wait_for("a good look-up", || fault().is_none());
    assert_eq!(
        proxy.live.load().pools()[0].endpoints[0].requests,
        2,
        "it is the same"
    );
}

#[test]
fn a_name_that_was_never_found_is_answered_in_time() {
    let server = NameServer::start("", &[]);
    let more = "timeouts = { connect = \"200ms\" }";
    let proxy = Proxy::start("", &by_name("none.test:80", &server, more));
    let _upkeep = Upkeep::of(&proxy);
    let answer = proxy.ask(GET);
    assert_eq!(
        (answer.status, answer.header("x-serin-error")),
        (503, Some("no_healthy_endpoint"))
    );
}

#[test]
fn certificates_of_what_was_found_are_for_the_name_that_was_looked_up() {
    let ca = Ca::new();
    ca.sign("a", "DNS:app.test", 30);
    let lines = Nginx::certificate(&ca.path("a.pem"), &ca.path("a.key"));
    let nginx = Nginx::start("ssl", &format!("{lines}return 200 \"$ssl_server_name\";"));
    let server = NameServer::start("127.0.0.1 app.test\n127.0.0.1 other.test\n", &[]);
    let tls = format!("tls = {{ ca = {:?} }}", ca.path("ca.pem"));
    for (host, expected) in [
        ("app.test", (200, None)),
        ("other.test", (502, Some("tls_failed"))),
    ] {
        let name = format!("{host}:{}", nginx.address().port());
        let proxy = Proxy::start("", &by_name(&name, &server, &tls));
        let _upkeep = Upkeep::of(&proxy);
        let answer = proxy.ask(GET);
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            expected,
            "{host}"
        );
        if expected.0 == 200 {
            assert_eq!(answer.text(), host, "it is asked for by SNI");
        }
    }
}
