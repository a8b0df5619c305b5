//! A proxy on real sockets, with upstreams that do as they are told and a client that sees every byte.

pub(crate) mod certificates;
mod client;
pub(crate) mod http2;
pub(crate) mod http2_upstream;
pub(crate) mod name_server;
pub(crate) mod peers;
pub(crate) mod program;
pub(crate) mod strictness;
pub(crate) mod upstream;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serin::clock;
use serin::config::{self, Config};
use serin::live::{Live, RolloutSettings, Table};
use serin::proxy::{self, ProxyParts, WorkerLost, Workers};
use serin::rollout::assign::Split;
use serin::rollout::name::RolloutName;
use serin::rollout::time::Timestamp;
use serin::rollout::weight::Weight;
use serin::shutdown::{self, Stage, Trigger};
use serin::telemetry::Telemetry;
use serin::telemetry::prometheus::{Exposition, Form};

pub(crate) use client::{Answer, Client};
pub(crate) use upstream::{Exchange, Upstream, reply};

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A stage that any test's rollout can have.
pub(crate) const STAGE: &str = r#"
[[rollouts.r.stages]]
name = "only"
weight = "1%"
duration = "1h"
"#;

/// A running data path. Cut off when dropped.
pub(crate) struct Proxy {
    pub(crate) live: Arc<Live>,
    pub(crate) telemetry: Arc<Telemetry>,
    addresses: Vec<SocketAddr>,
    trigger: Trigger,
    workers: Option<Workers>,
    epoch: u64,
}

/// Text for one pool without health checks.
pub(crate) fn pool(name: &str, endpoints: &[SocketAddr], more: &str) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    format!(
        "[pools.{name}]\nendpoints = [{}]\nhealth = false\n{more}\n",
        endpoints.join(", ")
    )
}

/// Text for one pool that every request goes to.
pub(crate) fn only(endpoints: &[SocketAddr], more: &str) -> String {
    format!(
        "{}[[routes]]\npath = \"/\"\npool = \"base\"\n",
        pool("base", endpoints, more)
    )
}

/// Text for a rollout `r` from pool `base` to pool `new`, with more keys for it.
pub(crate) fn rollout(base: &[SocketAddr], new: &[SocketAddr], more: &str) -> String {
    format!(
        "{}{}[[routes]]\npath = \"/\"\nrollout = \"r\"\n[rollouts.r]\nbaseline = \"base\"\ncanary = \"new\"\n\
         learner = [\"header:x-learner-id\"]\n{more}\n{STAGE}",
        pool("base", base, ""),
        pool("new", new, ""),
    )
}

/// An endpoint that takes no connection: the queue of its socket is full, and the kernel drops what comes. Both have to be
/// kept.
pub(crate) fn hole() -> (SocketAddr, (socket2::Socket, Vec<TcpStream>)) {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a free port");
    socket.listen(0).expect("it listens");
    let bound = socket.local_addr().expect("it is bound");
    let address = bound.as_socket().expect("an address");
    let patience = Duration::from_millis(50);
    let queue = (0..8)
        .map_while(|_| TcpStream::connect_timeout(&address, patience).ok())
        .collect();
    (address, (socket, queue))
}

/// An address that nobody listens on.
pub(crate) fn closed() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// Waits for a fact.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut fact: impl FnMut() -> bool) {
    let begin = clock::now();
    while !fact() {
        assert!(clock::now() - begin < PATIENCE, "waited in vain for {what}");
        thread::yield_now();
    }
}

/// As long as a connection rests before a request that may not be sent twice takes it, and longer.
pub(crate) fn rest() {
    let begin = clock::now();
    wait_for("a rest", || begin.elapsed() > Duration::from_millis(20));
}

impl Proxy {
    /// Starts one worker on a free port, with `server` as keys of `[server]` and the rest of the file.
    pub(crate) fn start(server: &str, rest: &str) -> Self {
        Self::start_with(&config(server, rest))
    }

    /// The same on these listeners, as `server.listen` has them.
    pub(crate) fn start_listening(listen: &str, rest: &str) -> Self {
        let text = format!("[server]\nlisten = [{listen}]\nworkers = 1\n{rest}");
        Self::start_with(&parsed(&text))
    }

    pub(crate) fn start_with(config: &Config) -> Self {
        let telemetry = Telemetry::new();
        let live = Live::new(Table::build(config, &BTreeMap::new(), &telemetry, None));
        let (trigger, shutdown) = shutdown::channel();
        let listeners = proxy::bind(&config.server).expect("a free port");
        let parts = ProxyParts {
            live: Arc::clone(&live),
            telemetry: Arc::clone(&telemetry),
            max_connections: proxy::max_connections(&config.server),
            shutdown,
        };
        let workers = proxy::start(listeners, parts).expect("it starts");
        let addresses = workers.addresses().to_vec();
        Self {
            live,
            telemetry,
            addresses,
            trigger,
            workers: Some(workers),
            epoch: 0,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Of every listener, in the order of the configuration.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// One request over a connection of its own, and the answer whole.
    pub(crate) fn ask(&self, request: &str) -> Answer {
        let mut client = self.client();
        client.send(request);
        client.answer()
    }

    /// Sends learners of rollout `r` to canary by this weight from now on.
    pub(crate) fn set_weight(&mut self, weight: &str) {
        let weight = Weight::parse(weight).expect("a weight");
        self.publish("r", |split| Split {
            weight,
            closed: false,
            ..split
        });
    }

    pub(crate) fn publish(&mut self, rollout: &str, change: impl FnOnce(Split) -> Split) {
        self.epoch += 1;
        let split = change(Split {
            epoch: self.epoch,
            ..Split::baseline_only()
        });
        let settings = RolloutSettings {
            split,
            latency_limits_us: Vec::new(),
            patience: Duration::from_millis(100),
            failover_after: Some(Duration::from_millis(200)),
            injection: None,
            stage: None,
        };
        let name = RolloutName::parse(rollout).expect("a name");
        let table = self.live.load().with_settings(&name, settings);
        self.live.publish(table);
    }

    /// A counter of the metrics as of now, summed over every sample whose labels contain these; 0 where there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        self.telemetry
            .drain(Timestamp::from_millis(0), Duration::from_secs(1));
        let mut exposition = Exposition::new(Form::Text);
        self.telemetry.expose(&mut exposition);
        let text = exposition.finish();
        let is_meant = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| {
            line.rsplit(' ')
                .next()
                .and_then(|value| value.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        text.lines().filter(is_meant).map(value).sum::<f64>() as u64
    }

    /// Requests of one arm by outcome: `ok`, `error`, `failed`, ...
    pub(crate) fn arm(&self, arm: &str, outcome: &str) -> u64 {
        let labels = [format!("arm=\"{arm}\""), format!("outcome=\"{outcome}\"")];
        self.metric(
            "serin_rollout_requests_total",
            &labels.each_ref().map(String::as_str),
        )
    }

    /// Every request that entered the arm figures.
    pub(crate) fn arms(&self) -> u64 {
        self.metric("serin_rollout_requests_total", &[])
    }

    /// Attempts on a pool by kind and outcome; an empty one means any.
    pub(crate) fn attempts(&self, pool: &str, kind: &str, outcome: &str) -> u64 {
        let labels = [("pool", pool), ("attempt", kind), ("outcome", outcome)];
        let said = labels.iter().filter(|(_, value)| !value.is_empty());
        let labels: Vec<String> = said
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        self.metric("serin_pool_requests_total", &labels)
    }

    pub(crate) fn advance(&self, stage: Stage) {
        self.trigger.advance(stage);
    }

    /// Waits until every worker has ended.
    pub(crate) fn join(mut self) -> Result<(), WorkerLost> {
        ended(self.workers.take().expect("it was not joined before"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.trigger.advance(Stage::Stopped);
        if let Some(workers) = self.workers.take()
            && let Err(lost) = ended(workers)
            && !thread::panicking()
        {
            panic!("{lost}");
        }
    }
}

fn ended(mut workers: Workers) -> Result<(), WorkerLost> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(workers.ended())
}

pub(crate) fn config(server: &str, rest: &str) -> Config {
    parsed(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n{server}\n{rest}"
    ))
}

fn parsed(text: &str) -> Config {
    config::parse("test.toml", text, &|_| None).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{}\n{text}", faults.join("\n"));
    })
}
