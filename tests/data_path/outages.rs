//! One endpoint of three killed, frozen or slowed under load: what learners see, when traffic leaves, how it returns.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serin::clock;
use serin::live::EndpointView;

use crate::support::{Client, Proxy, Upstream, closed, only, reply, wait_for};

/// How long an attempt may take.
const PER_TRY: Duration = Duration::from_millis(400);
const TIME_OUT: Duration = Duration::from_millis(700);
const POOL: &str = "slow_start = \"1s\"\nretries = { attempts = 2, per_try = \"400ms\" }\n\
                    ejection = { consecutive = 3, time_out = \"700ms\", max_time_out = \"700ms\" }";
const GET: &str = "GET /x HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\n\r\n";

/// A server in a process of its own.
struct Server {
    address: SocketAddr,
    child: Child,
}

/// Learners who ask one after the other until they are told to stop.
struct Load {
    done: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<(u16, Duration)>>>,
}

impl Server {
    fn start(address: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_serin"));
        command.args(["analyzer", "--listen", &address.to_string()]);
        let child = command.stdout(Stdio::null()).spawn().expect("it starts");
        wait_for("a server", || TcpStream::connect(address).is_ok());
        Self { address, child }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), signal).expect("it is there");
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("it ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let (done, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |_| {
            let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut seen = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    let begin = clock::now();
                    client.send(GET);
                    let status = client.answer().status;
                    seen.push((status, begin.elapsed()));
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                seen
            })
        };
        let clients = (0..6).map(client).collect();
        Self {
            done,
            answered,
            clients,
        }
    }

    fn wait_for_more(&self, more: usize) {
        let goal = self.answered.load(Ordering::SeqCst) + more;
        wait_for("the load", || self.answered.load(Ordering::SeqCst) >= goal);
    }

    // Every status but 200, and the longest wait.
    fn end(self) -> (Vec<u16>, Duration) {
        self.done.store(true, Ordering::SeqCst);
        let seen: Vec<_> = self
            .clients
            .into_iter()
            .flat_map(|client| client.join().expect("every request was answered"))
            .collect();
        let failed = seen.iter().map(|(status, _)| *status);
        let longest = seen.iter().map(|(_, waited)| *waited).max();
        (
            failed.filter(|status| *status != 200).collect(),
            longest.unwrap_or_default(),
        )
    }
}

fn view(proxy: &Proxy, address: SocketAddr) -> EndpointView {
    let address = address.to_string();
    let pools = proxy.live.load().pools();
    let mut endpoints = pools.into_iter().flat_map(|pool| pool.endpoints);
    let found = endpoints.find(|endpoint| endpoint.address == address);
    found.expect("it is listed")
}

// Hurts one endpoint of three under load and heals it again. `within` is how soon traffic has left it; the longest wait
// of a learner is answered.
fn outage(
    sick: SocketAddr,
    within: Duration,
    hurt: impl FnOnce(),
    heal: impl FnOnce(),
) -> Duration {
    let others = [
        Upstream::answering(reply("x")),
        Upstream::answering(reply("x")),
    ];
    let all = [sick, others[0].address(), others[1].address()];
    let proxy = Proxy::start("", &only(&all, POOL));
    let load = Load::on(proxy.address());
    load.wait_for_more(60);
    assert!(view(&proxy, sick).requests > 10, "it has its share");

    hurt();
    let begin = clock::now();
    wait_for("the ejection", || view(&proxy, sick).ejected.is_some());
    assert!(begin.elapsed() < within, "after {:?}", begin.elapsed());
    let (out, at) = (view(&proxy, sick), clock::now());
    let reason = out.ejected.expect("it is out").reason;
    assert!(reason.contains("failures in a row"), "{reason}");
    load.wait_for_more(60);
    if at.elapsed() < TIME_OUT / 2 {
        assert_eq!(
            view(&proxy, sick).requests,
            out.requests,
            "it is left alone"
        );
    }

    heal();
    wait_for("its return", || {
        let now = view(&proxy, sick);
        now.ejected.is_none() && now.requests > out.requests && now.warmth < 1.0
    });
    wait_for("its whole share", || {
        let now = view(&proxy, sick);
        now.ejected.is_none() && now.warmth >= 1.0
    });
    load.wait_for_more(60);
    assert!(view(&proxy, sick).requests > out.requests + 10);
    let (failed, longest) = load.end();
    assert!(failed.is_empty(), "learners saw {failed:?}");
    longest
}

#[test]
fn a_killed_endpoint_costs_no_learner_anything() {
    let server = std::cell::RefCell::new(Server::start(closed()));
    let address = server.borrow().address;
    let longest = outage(
        address,
        Duration::from_secs(1),
        || server.borrow_mut().kill(),
        || *server.borrow_mut() = Server::start(address),
    );
    assert!(longest < PER_TRY * 2, "a learner waited for {longest:?}");
}

#[test]
fn a_frozen_endpoint_costs_a_learner_one_timeout_at_most() {
    let server = Server::start(closed());
    let longest = outage(
        server.address,
        PER_TRY * 4,
        || server.signal(Signal::STOP),
        || server.signal(Signal::CONT),
    );
    assert!(longest < PER_TRY * 2, "a learner waited for {longest:?}");
}

#[test]
fn an_endpoint_slowed_to_five_seconds_is_left() {
    let slow = Arc::new(AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let (_never, time) = mpsc::channel::<()>();
    let time = std::sync::Mutex::new(time);
    let server = Upstream::scripted(move |mut exchange| {
        while exchange.request().is_some() {
            if is_slow.load(Ordering::SeqCst) {
                // Nobody ever sends: a wait of five seconds. Who comes meanwhile waits for the lock, which is longer.
                let time = time.lock().expect("nobody panicked");
                time.recv_timeout(Duration::from_secs(5))
                    .unwrap_or_default();
            }
            if !exchange.write(&reply("x")) {
                return;
            }
        }
    });
    let longest = outage(
        server.address(),
        PER_TRY * 4,
        || slow.store(true, Ordering::SeqCst),
        || slow.store(false, Ordering::SeqCst),
    );
    assert!(longest < PER_TRY * 2, "a learner waited for {longest:?}");
}

#[test]
fn two_choices_leave_a_slow_endpoint_before_anything_fails() {
    let slow = Upstream::scripted(|mut exchange| {
        let (_never, time) = mpsc::channel::<()>();
        while exchange.request().is_some() {
            time.recv_timeout(Duration::from_millis(100))
                .unwrap_or_default();
            exchange.write(&reply("x"));
        }
    });
    let fast = [
        Upstream::answering(reply("x")),
        Upstream::answering(reply("x")),
    ];
    let all = [slow.address(), fast[0].address(), fast[1].address()];
    let proxy = Proxy::start("", &only(&all, "balance = \"p2c\""));
    let load = Load::on(proxy.address());
    load.wait_for_more(300);
    let (failed, _) = load.end();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(slow.requests() < 30, "{} of 300", slow.requests());
}
