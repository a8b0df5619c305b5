//! Endpoints by DNS, asked of a real name server (dnsmasq) whose answers change.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serin::live::PoolView;
use serin::shutdown::{self, Stage, Trigger, Watched};
use serin::upstream::upkeep;

use crate::support::{Client, Proxy, Upstream, reply, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

/// A name server with a hosts file; answers hold for a second.
struct NameServer {
    address: SocketAddr,
    folder: tempfile::TempDir,
    child: Child,
}

/// The upkeep of a proxy's pools.
struct Upkeep {
    trigger: Trigger,
    watched: Option<Watched>,
}

impl NameServer {
    fn start(hosts: &str, more: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("hosts"), hosts).expect("a file");
        let port = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = port.local_addr().expect("it is bound");
        drop(port);
        let mut command = Command::new(dnsmasq());
        command.args(["--no-daemon", "--no-resolv", "--no-hosts", "--local-ttl=1"]);
        command.args(["--conf-file=/dev/null", "--pid-file="]);
        command.args(["--listen-address=127.0.0.1", "--bind-interfaces"]);
        command.arg(format!("--port={}", address.port()));
        let hosts = folder.path().join("hosts");
        command.arg(format!("--addn-hosts={}", hosts.display()));
        command.args(["--local=/test/"]).args(more);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("dnsmasq is installed by tests/run");
        // It serves TCP on the same port.
        wait_for("the name server", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            folder,
            child,
        }
    }

    fn set(&self, hosts: &str) {
        fs::write(self.folder.path().join("hosts"), hosts).expect("a file");
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), signal).expect("it is there");
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

impl Upkeep {
    fn of(proxy: &Proxy) -> Self {
        let (trigger, shutdown) = shutdown::channel();
        let watched = upkeep::start(proxy.live.pools(), shutdown).expect("it starts");
        wait_for("the first look-up", || {
            let pools = proxy.live.load().pools();
            let is_over = |pool: &PoolView| !pool.endpoints.is_empty() || pool.dns_fault.is_some();
            pools.iter().all(is_over)
        });
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

fn dnsmasq() -> PathBuf {
    // Debian has it where only root looks.
    let places = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq"].map(PathBuf::from);
    let found = places.into_iter().find(|place| place.exists());
    found.unwrap_or_else(|| "dnsmasq".into())
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
        server.address
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
