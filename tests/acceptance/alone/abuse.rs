//! Clients that misbehave, by the hundred: each meets its limit, others are served meanwhile, and nothing is left over.
//!
//! In a test run few of each; `load-tests/abuse` asks for more by SERIN_ABUSE_CLIENTS and SERIN_ABUSE_SECONDS, has the well-behaved
//! client's analyzer answer in SERIN_ABUSE_LATENCY, and prints what that client waited, and the process's memory and open files.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::support::{
    Analyzer, Connection, PATIENCE, Place, Serin, asked, eventually, free_port, get, pause,
};

/// Short, so that each limit is met in a test.
const TIMEOUTS: &str = "timeouts = { first_byte = \"1s\", head = \"1s\", body_idle = \"1s\", write_idle = \"1s\", keep_alive = \"1s\" }";
/// What the well-behaved client asks, of an analyzer that the others have nothing to do with.
const WELL: &[u8] = b"GET /well HTTP/1.1\r\nhost: a\r\n\r\n";
const GET: &[u8] = b"GET /work HTTP/1.1\r\nhost: a\r\n\r\n";
const FEW: usize = 200;
/// Of each kind, before anything is measured.
const FIRST_CLIENTS: usize = 10;
const FIRST_SPAN: Duration = Duration::from_millis(100);
/// How long a connection is kept idle.
const KEPT: Duration = Duration::from_secs(1);
/// What stays open beside the clients': a connection to upstream that was idle before is another one now.
const FILES_MORE: usize = 8;
/// What the process may keep for itself that it did not have after its first load, and of each client of the largest crowd:
/// the allocator gives little of it back, and takes no more for the next crowd.
const MEMORY_MORE_KIB: u64 = 24 * 1024;
const MEMORY_MORE_KIB_PER_CLIENT: u64 = 64;

/// A way to misbehave.
#[derive(Clone, Copy)]
enum Abuse {
    /// Many connections at once that do this and wait until they are ended.
    Crowd(fn(&mut TcpStream)),
    /// The same, of few: each costs the kernel some megabytes of buffers beside ours.
    Few(fn(&mut TcpStream)),
    /// One connection after the other that does this, for as long as the abuse lasts.
    Flood(fn(&mut TcpStream)),
    /// A machine that is as busy, with something that serin has no part in: what the others are measured by.
    Elsewhere,
}

impl Abuse {
    /// How many connections were made.
    fn run(self, address: SocketAddr, clients: usize, span: Duration) -> usize {
        match self {
            Self::Crowd(act) => crowd(address, clients, act),
            Self::Few(act) => crowd(address, clients.min(FEW), act),
            Self::Flood(act) => again_and_again(span, || act(&mut connect(address))),
            Self::Elsewhere => again_and_again(span, std::hint::spin_loop),
        }
    }
}

const ABUSES: &[(&str, Abuse)] = &[
    ("a busy machine", Abuse::Elsewhere),
    ("nothing at all", Abuse::Crowd(|_| ())),
    (
        "a head that does not end",
        Abuse::Crowd(|s| say(s, b"GET / HTTP/1.1\r\nhost: a\r\n")),
    ),
    (
        "a body that does not end",
        Abuse::Crowd(|s| {
            say(
                s,
                b"POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nx",
            )
        }),
    ),
    (
        "an answer that is not read",
        Abuse::Few(|s| say(s, b"GET /work?bytes=50000000 HTTP/1.1\r\nhost: a\r\n\r\n")),
    ),
    (
        "idle after a request",
        Abuse::Crowd(|s| {
            say(s, GET);
            let mut piece = [0; 4096];
            _ = s.read(&mut piece);
        }),
    ),
    (
        "HTTP/2 that says nothing",
        Abuse::Crowd(|s| say(s, &greeting())),
    ),
    (
        "HTTP/2 with half a head",
        Abuse::Crowd(|s| {
            say(s, &greeting());
            say(s, &frame(1, 1, 1, &[0x82]));
        }),
    ),
    (
        "connect and leave",
        Abuse::Flood(|s| _ = s.shutdown(Shutdown::Both)),
    ),
    (
        "ask and leave",
        Abuse::Flood(|s| {
            say(s, GET);
            _ = s.shutdown(Shutdown::Both);
        }),
    ),
    ("garbage", Abuse::Flood(|s| say(s, &[0x9d; 2000]))),
    (
        "requests over every limit",
        Abuse::Flood(|s| say(s, &[b'A'; 200_000])),
    ),
    (
        "rapid reset",
        Abuse::Flood(|s| {
            flood(s, |stream| {
                let head = frame(1, 5, stream, &head());
                [head, frame(3, 0, stream, &[0, 0, 0, 8])].concat()
            })
        }),
    ),
    (
        "CONTINUATION",
        Abuse::Flood(|s| {
            say(s, &frame(1, 1, 1, &head()));
            flood(s, |_| frame(9, 0, 1, &[0, 1, b'x', 1, b'y']));
        }),
    ),
    (
        "PING",
        Abuse::Flood(|s| flood(s, |_| frame(6, 0, 0, b"01234567"))),
    ),
    (
        "SETTINGS",
        Abuse::Flood(|s| flood(s, |_| frame(4, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]))),
    ),
    (
        "empty DATA",
        Abuse::Flood(|s| {
            say(s, &frame(1, 4, 1, &head()));
            flood(s, |_| frame(0, 0, 1, &[]));
        }),
    ),
    (
        "WINDOW_UPDATE",
        Abuse::Flood(|s| flood(s, |_| frame(8, 0, 0, &[0, 0, 0, 1]))),
    ),
];

/// On the port that speaks TLS.
const SECURED: &[(&str, Abuse)] = &[
    ("TLS: nothing at all", Abuse::Crowd(|_| ())),
    (
        "TLS: half a hello",
        Abuse::Crowd(|s| say(s, b"\x16\x03\x01\x02\x00\x01\x00")),
    ),
    ("TLS: garbage", Abuse::Flood(|s| say(s, &[0x42; 2000]))),
    ("TLS: HTTP in the clear", Abuse::Flood(|s| say(s, GET))),
];

#[test]
fn clients_that_misbehave_meet_their_limit_and_leave_nothing_behind() {
    let clients = asked("SERIN_ABUSE_CLIENTS", 100);
    let span = Duration::from_secs(asked("SERIN_ABUSE_SECONDS", 1) as u64);
    let last = last_core();
    last.inspect(stand_aside);
    let (serin, secured, _analyzers) = start();
    last.inspect(|_| give_core(&serin));
    // What a process holds after its first work of each kind is what it is measured by.
    crowd(serin.proxy, clients.min(500), |s| say(s, GET));
    let all = || {
        let clear = ABUSES.iter().map(|abuse| (serin.proxy, abuse));
        clear.chain(SECURED.iter().map(|abuse| (secured, abuse)))
    };
    for (address, (_, abuse)) in all() {
        abuse.run(address, FIRST_CLIENTS, FIRST_SPAN);
    }
    let quiet = waits(serin.proxy, &AtomicBool::new(false), Some(span));
    let before = State::of(&serin);
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    assert!(before.room >= limit.min(65_536), "the table would grow");
    println!("{clients} clients, {span:?} of each flood; before: {before}");
    println!("| abuse | connections | ended within | p50, p99 of another client | most memory |");
    println!("|---|---|---|---|---|");
    println!(
        "| none | 1 | | {} | {} MiB |",
        shown(&quiet),
        before.memory_kib / 1024
    );
    for (address, (name, abuse)) in all() {
        let done = AtomicBool::new(false);
        let most = AtomicUsize::new(0);
        let (made, ended, waits) = thread::scope(|scope| {
            let other = scope.spawn(|| waits(serin.proxy, &done, None));
            let looking = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    most.fetch_max(State::of(&serin).memory_kib as usize, Ordering::Relaxed);
                    thread::park_timeout(Duration::from_millis(50));
                }
            });
            let begin = Instant::now();
            let abusing = scope.spawn(|| {
                give_way();
                abuse.run(address, clients, span)
            });
            let made = abusing.join().expect("it is let in");
            eventually(name, || (open(&serin) <= 1).then_some(()));
            let ended = begin.elapsed();
            done.store(true, Ordering::Relaxed);
            looking.join().expect("it ends");
            (made, ended, other.join().expect("it is served"))
        });
        let most = most.load(Ordering::Relaxed) / 1024;
        println!(
            "| {name} | {made} | {:.1} s | {} | {most} MiB |",
            ended.as_secs_f64(),
            shown(&waits)
        );
        assert!(!waits.is_empty(), "{name}: another client is not served");
    }
    let after = eventually("all files to be closed", || {
        let state = State::of(&serin);
        (state.files <= before.files + FILES_MORE).then_some(state)
    });
    // The allocator gives back what was not used for some seconds: where the figures are wanted, they are waited for.
    let settles = Duration::from_secs(asked("SERIN_ABUSE_SETTLES", 0) as u64);
    let begin = Instant::now();
    let share = |state: &State| 100.0 * (state.memory_kib as f64 / before.memory_kib as f64 - 1.0);
    println!("after: {after}, memory {:+.0} %", share(&after));
    let mut settled = State::of(&serin);
    while share(&settled) > 10.0 && begin.elapsed() < settles {
        pause();
        settled = State::of(&serin);
    }
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{took:.0} s later: {settled}, memory {:+.0} %",
        share(&settled)
    );
    let more = MEMORY_MORE_KIB + clients as u64 * MEMORY_MORE_KIB_PER_CLIENT;
    assert!(
        after.memory_kib <= before.memory_kib + more,
        "{before}, then {after}"
    );
    assert_eq!(get(serin.proxy, "/work").status, 200);
}

/// What the process holds.
struct State {
    files: usize,
    /// How many the kernel's table has room for before it has to grow.
    room: u64,
    memory_kib: u64,
    /// Of it: what it allocated. The rest is its code.
    own_kib: u64,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            files,
            memory_kib,
            own_kib,
            ..
        } = self;
        write!(
            f,
            "{files} files, {memory_kib} KiB, {own_kib} of them allocated"
        )
    }
}

impl State {
    fn of(serin: &Serin) -> Self {
        let process = format!("/proc/{}", serin.process.child.id());
        let files = std::fs::read_dir(format!("{process}/fd")).expect("it runs");
        let status = std::fs::read_to_string(format!("{process}/status")).expect("it runs");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let size = line.and_then(|text| text.split_whitespace().next());
            size.and_then(|size| size.parse().ok()).expect("a size")
        };
        Self {
            files: files.count(),
            room: number("FDSize:"),
            memory_kib: number("VmRSS:"),
            own_kib: number("RssAnon:"),
        }
    }
}

// A proxy with a port in the clear and one with TLS.
fn start() -> (Serin, SocketAddr, [Analyzer; 2]) {
    let place = Place::new();
    let secured = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let folder = place.folder.path();
    let latency = std::env::var("SERIN_ABUSE_LATENCY").unwrap_or_else(|_| "0ms".to_owned());
    let analyzers = [("base", "0ms"), ("well", latency.as_str())]
        .map(|(pool, latency)| Analyzer::start_with(folder, pool, latency, &[]));
    let (cert, key) = (folder.join("a.pem"), folder.join("a.key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args([
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=a",
            "-addext",
            "subjectAltName=DNS:a",
        ])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    place.write(
        1,
        &format!(
            "[pools.base]\nendpoints = [\"{}\"]\nhealth = false\n[pools.well]\nendpoints = [\"{}\"]\nhealth = false\n\
             [[routes]]\npath = \"/well\"\npool = \"well\"\n[[routes]]\npath = \"/\"\npool = \"base\"\n",
            analyzers[0].addr, analyzers[1].addr
        ),
    );
    let text = std::fs::read_to_string(place.config()).expect("it is there");
    let listen = format!(
        "listen = [\"{}\", {{ address = \"{secured}\", tls = {{ cert = {cert:?}, key = {key:?} }} }}]\n{TIMEOUTS}\n",
        place.proxy
    );
    let text = text.replacen(&format!("listen = [\"{}\"]\n", place.proxy), &listen, 1);
    let text = text.replacen("[admin]\n", "[admin]\nopen_metrics = true\n", 1);
    std::fs::write(place.config(), text).expect("a configuration");
    (place.start(), secured, analyzers)
}

fn open(serin: &Serin) -> u64 {
    let metrics = get(serin.admin, "/metrics").text();
    let open = metrics
        .lines()
        .find_map(|line| line.strip_prefix("serin_connections_open "));
    open.and_then(|number| number.parse::<f64>().ok())
        .expect("it is counted") as u64
}

// Makes all connections, then waits for the end of each; how many there were.
fn crowd(address: SocketAddr, clients: usize, act: fn(&mut TcpStream)) -> usize {
    let mut all: Vec<TcpStream> = (0..clients)
        .map(|_| {
            let mut stream = connect(address);
            act(&mut stream);
            stream
        })
        .collect();
    for stream in &all {
        stream.set_nonblocking(true).expect("it can be set");
    }
    let deadline = Instant::now() + PATIENCE;
    while !all.is_empty() {
        all.retain_mut(|stream| !has_ended(stream));
        assert!(Instant::now() < deadline, "{} are still there", all.len());
        pause();
    }
    clients
}

// Whether the other side has ended. A short answer is read to find the end behind it; a large one stays where it is, and
// is ended by a reset.
fn has_ended(stream: &mut TcpStream) -> bool {
    let mut piece = [0; 4096];
    if stream.take_error().ok().flatten().is_some() {
        return true;
    }
    match stream.peek(&mut piece) {
        Ok(0) => true,
        Ok(len) if len < piece.len() => stream.read(&mut piece).is_err(),
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

// serin has the first core for itself, and everybody else shares the others, as they would have machines of their own: what is
// measured is what a crowd takes of serin, and not of the machine.
fn stand_aside(last: &usize) {
    tool(
        "taskset",
        &["-p", "-c", &format!("1-{last}"), &this_thread()],
    );
}

fn give_core(serin: &Serin) {
    let process = serin.process.child.id().to_string();
    tool("taskset", &["-a", "-p", "-c", "0", &process]);
}

// Where there is more than one.
fn last_core() -> Option<usize> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores > 1).then(|| cores - 1)
}

// Who floods is elsewhere: here he takes no time of the machine that serin or the other client could use. Nice by 19 he still
// would, some milliseconds at a time.
fn give_way() {
    // Of this thread and those that it starts.
    tool("chrt", &["--idle", "--pid", "0", &this_thread()]);
}

fn this_thread() -> String {
    let here = std::fs::read_link("/proc/thread-self").expect("Linux");
    let thread = here.file_name().and_then(|name| name.to_str());
    thread.expect("a number").to_owned()
}

// Of util-linux.
fn tool(program: &str, words: &[&str]) {
    let done = Command::new(program).args(words).output().expect(program);
    assert!(done.status.success(), "{program}: {done:?}");
}

// Four at a time; how many there were.
fn again_and_again(span: Duration, act: impl Fn() + Sync) -> usize {
    let begin = Instant::now();
    let one = || {
        let mut made = 0;
        while begin.elapsed() < span {
            act();
            made += 1;
        }
        made
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("it ends"))
            .sum()
    })
}

// How long each answer takes, one request after the other, until it is done or the time is up.
fn waits(address: SocketAddr, done: &AtomicBool, span: Option<Duration>) -> Vec<Duration> {
    let begin = Instant::now();
    let mut connection = Connection::open(address).expect("it accepts");
    let mut waits = Vec::new();
    let mut last = begin;
    while !done.load(Ordering::Relaxed) && span.is_none_or(|span| begin.elapsed() < span) {
        let asked = Instant::now();
        // On a machine that gave this thread no time it was idle for as long as one is kept.
        if asked - last > KEPT / 2 {
            connection = Connection::open(address).expect("it accepts");
        }
        let answer = connection.exchange(WELL).expect("an answer");
        last = Instant::now();
        assert_eq!(answer.status, 200);
        waits.push(asked.elapsed());
        thread::park_timeout(Duration::from_millis(2));
    }
    waits
}

fn shown(waits: &[Duration]) -> String {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    let at = |share: f64| {
        let place = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
        waits
            .get(place)
            .map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e3)
    };
    format!("{:.2}, {:.2} ms", at(0.5), at(0.99))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it accepts");
    stream
        .set_read_timeout(Some(Duration::from_millis(1)))
        .expect("it can be set");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("it can be set");
    stream
}

// A server that has ended already is what this is about.
fn say(stream: &mut TcpStream, bytes: &[u8]) {
    _ = stream.write_all(bytes);
}

// Writes frames without reading, until the connection is ended.
fn flood(stream: &mut TcpStream, of: impl Fn(u32) -> Vec<u8>) {
    say(stream, &greeting());
    for turn in 0..2_000 {
        let frames: Vec<u8> = (0..100)
            .flat_map(|n| of(2 * (turn * 100 + n) + 1))
            .collect();
        if stream.write_all(&frames).is_err() {
            return;
        }
        // What is answered has to go somewhere.
        let mut scrap = [0; 16 * 1024];
        stream.set_nonblocking(true).expect("it can be set");
        while let Ok(1..) = stream.read(&mut scrap) {}
        stream.set_nonblocking(false).expect("it can be set");
    }
}

fn greeting() -> Vec<u8> {
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
    ]
    .concat()
}

// GET http://a/work by entries of the static table (RFC 7541, appendix A).
fn head() -> Vec<u8> {
    [&[0x82, 0x86, 0x41, 1, b'a', 0x44, 5][..], b"/work"].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    let [_, len @ ..] = len.to_be_bytes();
    let head = [len[0], len[1], len[2], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}
