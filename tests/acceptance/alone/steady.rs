//! A steady load of wrk and of clients of HTTP/2, while everything that may change meanwhile does: the file, the
//! certificate, the addresses of a name, the process; and at last it is told to end. No request is lost.
//!
//! Lost is what was accepted and not answered whole. What a GOAWAY or REFUSED_STREAM says was not looked at may be sent
//! again (RFC 9113, 8.7), and after the end nobody listens.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::authority::{self, Ca};
use crate::support::name_server::NameServer;
use crate::support::{Analyzer, Connection, Place, Serin, StopOnDrop, eventually, free_port, post};

/// How often each of them changes: in each turn the certificate and the name once, the file five times, and in each
/// fourth the process.
const TURNS: usize = 20;
const RELOADS_OF_A_TURN: usize = 5;
const TURNS_OF_A_TAKEOVER: usize = 4;
/// Of HTTP/1.1 and of HTTP/2, here with four requests at a time on each.
const CONNECTIONS: usize = 2;
/// wrk is told to run this long at most; it is stopped before serin is, because it does not tell a connection that nobody
/// took from a request that was lost.
const WRK_SECONDS: &str = "300";
/// The script that users are given as well.
const LEARNERS_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/load-tests/learners.lua");

/// Three analyzers on one port, of which a name has two at a time; a proxy before them, in the clear and with TLS.
struct House {
    serin: Serin,
    tls: SocketAddr,
    names: NameServer,
    port: u16,
    ca: Ca,
    _analyzers: Vec<Analyzer>,
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// Over HTTP/1.1, and over HTTP/2.
    answered: [AtomicU64; 2],
    /// Sent again, because they were told that nobody had looked at it.
    refused: AtomicU64,
    /// Nobody may listen any more, and that is right.
    is_leaving: AtomicBool,
}

impl House {
    fn new() -> Self {
        let place = Place::new();
        let folder = place.folder.path().to_owned();
        let (ca, names, port) = (Ca::new(), NameServer::start(&hosts(0), &[]), free_port());
        ca.sign("server", "IP:127.0.0.1", 30);
        let analyzers = [1, 2, 3].map(|last| {
            let addr = SocketAddr::from(([127, 0, 0, last], port));
            Analyzer::start_at(addr, &folder, "app", &["--latency", "1ms"])
        });
        let tls = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let in_the_clear = format!("listen = [\"{}\"]", place.proxy);
        let both = format!(
            "listen = [\"{}\", {{ address = \"{tls}\", tls = {} }}]",
            place.proxy,
            ca.keys("server", "")
        );
        place.write(
            2,
            &format!(
                "[pools.app]\ndns = {{ name = \"app.test:{port}\", servers = [\"{}\"] }}\nslow_start = \"0s\"\n\
                 [pools.app.timeouts]\nidle = \"1000ms\"\n[[routes]]\npool = \"app\"\n",
                names.address()
            ),
        );
        let text = std::fs::read_to_string(place.config()).expect("it was written");
        let text = text.replacen(&in_the_clear, &both, 1);
        std::fs::write(place.config(), text).expect("a configuration");
        Self {
            serin: place.start(),
            tls,
            names,
            port,
            ca,
            _analyzers: analyzers.into(),
        }
    }

    /// Another idle timeout in the file, in force when this returns.
    fn reload(&self, nth: usize) {
        let config = self.serin.folder.path().join("proxy.toml");
        let text = std::fs::read_to_string(&config).expect("it was written");
        let (old, new) = (1_000 + nth - 1, 1_000 + nth);
        let old = format!("idle = \"{old}ms\"");
        assert!(text.contains(&old), "{text}");
        let text = text.replacen(&old, &format!("idle = \"{new}ms\""), 1);
        std::fs::write(config, text).expect("a configuration");
        let answer = post(self.serin.admin, "/api/reload", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let changed = answer.json()["changed"].to_string();
        assert!(changed.contains("idle"), "{changed}");
    }

    /// The pool's endpoints are those that the name has in this turn.
    fn await_addresses(&self, turn: usize) {
        let wanted: BTreeSet<String> = pair(turn)
            .map(|last| format!("127.0.0.{last}:{}", self.port))
            .into();
        eventually(&format!("{wanted:?}"), || {
            let pools = self.serin.get("/api/pools");
            let endpoints = pools["pools"][0]["endpoints"].as_array()?.clone();
            let address = |endpoint: &Value| endpoint["address"].as_str().map(str::to_owned);
            let found: BTreeSet<String> = endpoints.iter().filter_map(address).collect();
            (found == wanted).then_some(())
        });
    }

    /// New handshakes show the certificate that lies in the file.
    fn await_certificate(&self) {
        let wanted = self.ca.der("server");
        eventually("the new certificate", || {
            let stream = std::net::TcpStream::connect(self.tls).expect("it listens");
            let mut stream = self.ca.secure_blocking(stream, "127.0.0.1", &["h2"]);
            stream.conn.complete_io(&mut stream.sock).expect("TLS");
            let shown = stream.conn.peer_certificates()?.first()?;
            (*shown == wanted).then_some(())
        });
    }
}

/// Two of the three, another two in the next turn.
fn pair(turn: usize) -> [u8; 2] {
    [[1, 2], [2, 3], [3, 1]][turn % 3]
}

fn hosts(turn: usize) -> String {
    let line = |last| format!("127.0.0.{last} app.test\n");
    pair(turn).map(line).concat()
}

/// `requests N failed N` of wrk, once it is told to stop.
fn stopped(wrk: Child) -> [u64; 2] {
    signal(&wrk, Signal::INT);
    let output = wrk.wait_with_output().expect("our own child");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.starts_with("requests "));
    let line = line.unwrap_or_else(|| panic!("wrk said: {said}"));
    let words: Vec<&str> = line.split(' ').collect();
    [1, 3].map(|at| words[at].parse().expect("a number"))
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), signal).expect("it is there");
}

/// A client of HTTP/1.1, on one connection at a time, which it uses for as long as it is let.
fn http1(address: SocketAddr, seen: &Seen, stop: &AtomicBool) {
    let may_leave = |why: std::io::Error| {
        let is_leaving = seen.is_leaving.load(Ordering::Relaxed);
        assert!(is_leaving, "no connection, or one that says nothing: {why}");
    };
    while !stop.load(Ordering::Relaxed) {
        let mut connection = match Connection::open(address) {
            Ok(connection) => connection,
            Err(why) => return may_leave(why),
        };
        let mut is_known = false;
        while !stop.load(Ordering::Relaxed) {
            let nth = seen.answered[0].load(Ordering::Relaxed);
            let answer = match connection.learner(&format!("learner-{}", nth % 20_000)) {
                Ok(answer) => answer,
                // The kernel took the connection for one that closed at that moment.
                Err(why) if !is_known => return may_leave(why),
                Err(why) => panic!("a request was lost: {why}"),
            };
            assert_eq!(answer.status, 200);
            seen.answered[0].fetch_add(1, Ordering::Relaxed);
            is_known = true;
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
}

/// A client of HTTP/2 over TLS, on one connection at a time, which it uses for as long as it is let.
fn http2(address: SocketAddr, config: &Arc<ClientConfig>, seen: &Seen, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        while !stop.load(Ordering::Relaxed) {
            let opened = async {
                let stream = TcpStream::connect(address).await?;
                let stream = authority::secure_over(stream, config, "127.0.0.1").await?;
                h2::client::handshake(stream)
                    .await
                    .map_err(std::io::Error::other)
            };
            let (sender, connection) = match opened.await {
                Ok(opened) => opened,
                Err(_) if seen.is_leaving.load(Ordering::Relaxed) => return,
                Err(why) => panic!("no connection: {why}"),
            };
            tokio::spawn(connection);
            let asked = || asked(sender.clone(), seen, stop);
            tokio::join!(asked(), asked(), asked(), asked());
        }
    });
}

/// Asks again and again, until the connection takes no more.
async fn asked(sender: SendRequest<Bytes>, seen: &Seen, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let nth = seen.answered[1].load(Ordering::Relaxed);
        let request = Request::get("https://serin.test/work")
            .header("x-learner-id", format!("learner-{}", nth % 20_000))
            .body(())
            .expect("a request");
        let Ok(mut ready) = sender.clone().ready().await else {
            return;
        };
        let Ok((answer, _)) = ready.send_request(request, true) else {
            return;
        };
        match whole(answer).await {
            Ok(status) => {
                assert_eq!(status, 200);
                seen.answered[1].fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                let is_unseen = why.is_remote()
                    && (why.is_go_away() || why.reason() == Some(h2::Reason::REFUSED_STREAM));
                assert!(is_unseen, "a request was lost: {why}");
                seen.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

async fn whole(answer: ResponseFuture) -> Result<u16, h2::Error> {
    let answer = answer.await?;
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    Ok(status)
}

#[test]
fn reloads_certificates_names_takeovers_and_the_end_lose_no_request() {
    let mut house = House::new();
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    let config = house.ca.client(&["h2"], &[&rustls::version::TLS13], None);
    let (proxy, tls) = (house.serin.proxy, house.tls);
    let mut replaced = Vec::new();
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c8", &format!("-d{WRK_SECONDS}s"), "-s"]);
    wrk.arg(LEARNERS_SCRIPT)
        .arg(format!("http://{}/", house.serin.proxy));
    std::thread::scope(|scope| {
        let mut clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| http2(tls, &config, &seen, &stop)))
            .collect();
        clients.extend((0..CONNECTIONS).map(|_| scope.spawn(|| http1(proxy, &seen, &stop))));
        let _stop = StopOnDrop(&stop);
        let wrk = wrk.stdout(Stdio::piped()).spawn();
        let wrk = wrk.expect("wrk is installed (tests/run installs it)");
        for turn in 1..=TURNS {
            let answered = || {
                seen.answered
                    .each_ref()
                    .map(|one| one.load(Ordering::Relaxed))
            };
            let before = answered();
            house.names.set(&hosts(turn));
            house.ca.sign("server", "IP:127.0.0.1", 30);
            for nth in 1..=RELOADS_OF_A_TURN {
                house.reload((turn - 1) * RELOADS_OF_A_TURN + nth);
            }
            house.await_certificate();
            if turn % TURNS_OF_A_TAKEOVER == 0 {
                replaced.push(house.serin.take_over(&format!("serin-{turn}.log")));
            }
            house.await_addresses(turn);
            eventually("the load goes on", || {
                let more = answered()
                    .into_iter()
                    .zip(before)
                    .all(|(now, before)| now > before + 200);
                more.then_some(())
            });
        }
        for process in &mut replaced {
            assert_eq!(process.wait(), 0, "{}", process.log());
        }
        let [requests, failed] = stopped(wrk);
        println!("wrk: {requests} requests, {failed} failed");
        assert_eq!(failed, 0, "of wrk's {requests}");
        assert!(requests > 2_000);
        seen.is_leaving.store(true, Ordering::Relaxed);
        signal(&house.serin.process.child, Signal::TERM);
        assert_eq!(
            house.serin.process.wait(),
            0,
            "{}",
            house.serin.process.log()
        );
        for client in clients {
            client.join().expect("no request is lost");
        }
    });
    let [http1, http2] = seen.answered.map(AtomicU64::into_inner);
    println!(
        "HTTP/1.1: {http1} answered; HTTP/2: {http2} answered, {} sent again",
        seen.refused.into_inner()
    );
}
