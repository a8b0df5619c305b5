//! Upstreams that misbehave: what the learner gets, what is counted, and what becomes of the connection.
//!
//! The first connection of a case misbehaves, every later one answers `fine`. What broke is never used again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::support::{Client, Exchange, PATIENCE, Proxy, Upstream, only, reply, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n";

/// Short enough to wait for, and long enough for a busy machine; and no second attempt, which would hide what became of the first.
const ONCE: &str = "timeouts = { connect = \"1s\", answer_head = \"1s\", body_idle = \"1s\" }\nretries = { attempts = 0 }";

/// What a learner gets.
#[derive(Clone, Copy, Debug)]
enum Gets {
    /// serin's own answer.
    Error(u16, &'static str),
    /// Upstream's, whole.
    Whole(u16, &'static str),
    /// Upstream's head and a part of its body, and then the end of the connection.
    Part(&'static [u8]),
}

/// What becomes of upstream's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Gone,
}

struct Row {
    name: &'static str,
    request: &'static str,
    act: fn(&mut Exchange),
    gets: Gets,
    /// As `serin_pool_requests_total` counts it.
    outcome: &'static str,
    fate: Fate,
}

fn reset(exchange: &Exchange) {
    let socket = SockRef::from(&exchange.stream);
    socket
        .set_linger(Some(Duration::ZERO))
        .expect("it can be set");
}

const BAD: Gets = Gets::Error(502, "bad_answer");
const BROKE_OFF: Gets = Gets::Error(502, "reset");

/// Rows whose first connection is asked, writes this, and waits for the end.
const fn says(
    name: &'static str,
    act: fn(&mut Exchange),
    gets: Gets,
    outcome: &'static str,
) -> Row {
    Row {
        name,
        request: GET,
        act,
        gets,
        outcome,
        fate: Fate::Gone,
    }
}

const ROWS: &[Row] = &[
    says(
        "never answers",
        |e| {
            e.end();
        },
        Gets::Error(504, "timeout"),
        "failed",
    ),
    says(
        "resets before the head",
        |e| {
            e.request();
            reset(e);
        },
        BROKE_OFF,
        "failed",
    ),
    says(
        "closes before the head",
        |e| {
            e.request();
        },
        BROKE_OFF,
        "failed",
    ),
    says(
        "closes before the head, to a POST",
        |e| {
            e.request();
        },
        BROKE_OFF,
        "failed",
    )
    .asked(POST),
    says(
        "resets within the head",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-le");
            reset(e);
        },
        BROKE_OFF,
        "failed",
    ),
    says(
        "closes within the head",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-le");
        },
        BROKE_OFF,
        "failed",
    ),
    says(
        "stops within the head",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-le");
            e.end();
        },
        Gets::Error(504, "timeout"),
        "failed",
    ),
    says(
        "drips its head",
        |e| {
            e.request();
            drip(e, "HTTP/1.1 200 OK\r\n", "x: y\r\n");
        },
        Gets::Error(504, "timeout"),
        "failed",
    ),
    says(
        "resets within the body",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
            reset(e);
        },
        Gets::Part(b"half"),
        "failed",
    ),
    says(
        "closes within the body",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
        },
        Gets::Part(b"half"),
        "failed",
    ),
    says(
        "stops within the body",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
            e.end();
        },
        Gets::Part(b"half"),
        "failed",
    ),
    says(
        "closes within chunks",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        },
        Gets::Part(b"4\r\nhalf\r\n"),
        "failed",
    ),
    says(
        "a chunk's size is none",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nxyz\r\n");
            e.end();
        },
        Gets::Part(b"4\r\nhalf\r\n"),
        "failed",
    ),
    says(
        "a chunk is longer than its size",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalfmore\r\n");
            e.end();
        },
        Gets::Part(b"4\r\nhalf\r\n"),
        "failed",
    ),
    says(
        "answers garbage",
        |e| {
            e.request();
            e.write("\0\x01garbage\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "answers in another protocol",
        |e| {
            e.request();
            e.write("SSH-2.0-OpenSSH_9.2\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "answers in another version",
        |e| {
            e.request();
            e.write("HTTP/9.9 what\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "a status of two digits",
        |e| {
            e.request();
            e.write("HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "a status of 0",
        |e| {
            e.request();
            e.write("HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "NUL in a header",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "a header without a colon",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\nxy\r\ncontent-length: 0\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "a folded header",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 0\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "two lengths that differ",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "a length beside chunks",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "another coding than chunks",
        |e| {
            e.request();
            e.write(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            );
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "a length with a sign",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx");
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "a header of 1 MB",
        |e| {
            e.request();
            e.write(&format!(
                "HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n",
                "y".repeat(1 << 20)
            ));
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "20,000 headers",
        |e| {
            e.request();
            e.write(&format!(
                "HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n",
                "x: y\r\n".repeat(20_000)
            ));
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "switches protocols unasked",
        |e| {
            e.request();
            e.write(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            );
            e.end();
        },
        BAD,
        "failed",
    ),
    says(
        "endless 1xx",
        |e| {
            e.request();
            while e.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n") {}
        },
        BAD,
        "failed",
    ),
    says(
        "drips 1xx",
        |e| {
            e.request();
            drip(e, "", "HTTP/1.1 102 Processing\r\n\r\n");
        },
        Gets::Error(504, "timeout"),
        "failed",
    ),
    says(
        "two answers at once",
        |e| {
            e.request();
            e.write(&format!("{}{}", reply("first"), reply("second")));
            e.end();
        },
        Gets::Whole(200, "first"),
        "ok",
    ),
    says(
        "bytes behind an answer",
        |e| {
            e.request();
            e.write(&format!("{}x", reply("first")));
            e.end();
        },
        Gets::Whole(200, "first"),
        "ok",
    ),
    says(
        "a body with 204",
        |e| {
            e.request();
            e.write("HTTP/1.1 204 No Content\r\n\r\nsmuggled");
            e.end();
        },
        Gets::Whole(204, ""),
        "ok",
    ),
    says(
        "a body with 304",
        |e| {
            e.request();
            e.write("HTTP/1.1 304 Not Modified\r\ncontent-length: 8\r\n\r\nsmuggled");
            e.end();
        },
        Gets::Whole(304, ""),
        "ok",
    ),
    says(
        "a body with an answer to HEAD",
        |e| {
            e.request();
            e.write(&reply("smuggled"));
            e.end();
        },
        Gets::Whole(200, ""),
        "ok",
    )
    .asked(HEAD),
    says(
        "no length, and a close",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\n\r\nto the end");
        },
        Gets::Whole(200, "A\r\nto the end\r\n0\r\n\r\n"),
        "ok",
    ),
    says(
        "says that it closes, and does not",
        |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx");
            e.end();
        },
        Gets::Whole(200, "x"),
        "ok",
    ),
    says(
        "answers before a body is there, and closes",
        |e| {
            e.head();
            e.write("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig");
        },
        Gets::Whole(413, "big"),
        "client_error",
    )
    .asked("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\nnot all"),
    Row {
        name: "drips its body",
        request: GET,
        act: |e| {
            e.request();
            e.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n");
            for byte in ["s", "l", "o", "w", "l", "y"] {
                pause(Duration::from_millis(100));
                e.write(byte);
            }
            while e.request().is_some() {
                e.write(&reply("fine"));
            }
        },
        gets: Gets::Whole(200, "slowly"),
        outcome: "ok",
        fate: Fate::Kept,
    },
    Row {
        name: "is well",
        request: GET,
        act: |e| {
            while e.request().is_some() {
                e.write(&reply("fine"));
            }
        },
        gets: Gets::Whole(200, "fine"),
        outcome: "ok",
        fate: Fate::Kept,
    },
];

impl Row {
    const fn asked(mut self, request: &'static str) -> Self {
        self.request = request;
        self
    }
}

// Writes a little again and again, until the other side is gone.
fn drip(exchange: &mut Exchange, first: &str, more: &str) {
    exchange.write(first);
    while exchange.write(more) {
        pause(Duration::from_millis(50));
    }
}

// What an upstream takes of its time.
fn pause(span: Duration) {
    let (_keep, never) = mpsc::channel::<()>();
    _ = never.recv_timeout(span);
}

#[test]
fn whatever_an_upstream_does_has_its_answer_its_count_and_its_end() {
    let faults: Vec<String> = thread::scope(|scope| {
        let checks: Vec<_> = ROWS.iter().map(|row| scope.spawn(|| check(row))).collect();
        let ended = checks.into_iter().zip(ROWS).map(|(check, row)| {
            let said = check.join();
            said.unwrap_or_else(|_| vec![format!("{}: see above", row.name)])
        });
        ended.flatten().collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn check(row: &Row) -> Vec<String> {
    let connections = AtomicUsize::new(0);
    let act = row.act;
    let (over, is_over) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        if connections.fetch_add(1, Ordering::SeqCst) == 0 {
            act(&mut exchange);
            drop(exchange);
            // Nobody waits for a connection that is kept.
            over.send(()).unwrap_or_default();
            return;
        }
        while exchange.request().is_some() {
            exchange.write(&reply("fine"));
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ONCE));
    let mut faults = Vec::new();
    let mut client = proxy.client();
    client.send(row.request);
    let said = heard(&mut client, row);
    if let Err(why) = said {
        faults.push(format!("{}: {why}", row.name));
    }
    let counted = (
        proxy.attempts("base", "first", row.outcome),
        proxy.attempts("base", "", ""),
    );
    if counted != (1, 1) {
        faults.push(format!("{}: {counted:?} attempts", row.name));
    }
    if row.fate == Fate::Gone {
        let ended = is_over.recv_timeout(PATIENCE);
        ended.unwrap_or_else(|_| panic!("{}: its connection stays", row.name));
    }
    let next = proxy.ask(GET);
    if (next.status, next.text().as_str()) != (200, "fine") {
        faults.push(format!("{}: then {next:?}", row.name));
    }
    let expected = match row.fate {
        Fate::Kept => 1,
        Fate::Gone => 2,
    };
    if upstream.connections() != expected {
        let found = upstream.connections();
        faults.push(format!("{}: {found} connections", row.name));
    }
    faults
}

fn heard(client: &mut Client, row: &Row) -> Result<(), String> {
    let head = client.head();
    let status: u16 = head[9..12].parse().expect("a status");
    let reason = head
        .lines()
        .find_map(|line| line.strip_prefix("x-serin-error: "));
    match row.gets {
        Gets::Error(expected, wanted) => {
            let is_right = (status, reason) == (expected, Some(wanted));
            is_right.then_some(()).ok_or(head)
        }
        Gets::Whole(expected, text) => {
            let body = client.exactly(text.len());
            let is_right = (status, reason, &body[..]) == (expected, None, text.as_bytes());
            is_right
                .then_some(())
                .ok_or_else(|| format!("{head}{}", body.escape_ascii()))
        }
        Gets::Part(part) => {
            let body = client.rest();
            let is_right = (status, reason, &body[..]) == (200, None, part);
            is_right
                .then_some(())
                .ok_or_else(|| format!("{head}{}", body.escape_ascii()))
        }
    }
}

#[test]
fn an_answer_that_comes_before_its_request_desynchronises_nobody() {
    let connections = AtomicUsize::new(0);
    let (over, is_over) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        if connections.fetch_add(1, Ordering::SeqCst) > 0 {
            while exchange.request().is_some() {
                exchange.write(&reply("fine"));
            }
            return;
        }
        exchange.write(&reply("soon"));
        exchange.request();
        exchange.write(&reply("late"));
        exchange.end();
        over.send(()).expect("the test listens");
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    // Right behind a request it looks like a fast answer; seen before one, its connection is given up.
    let first = proxy.ask(GET).text();
    assert!(["soon", "fine"].contains(&first.as_str()), "{first}");
    let ended = is_over.recv_timeout(PATIENCE);
    ended.expect("its connection is not kept");
    assert_eq!(proxy.ask(GET).text(), "fine");
}

/// How many requests the upstream that closes under its clients is asked.
const MANY: usize = 10_000;

#[test]
fn ten_thousand_gets_survive_an_upstream_that_closes_as_it_is_asked() {
    let upstream = closing();
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let answers = ask_many(proxy.address(), |id| {
        format!("GET /{id} HTTP/1.1\r\nhost: h\r\n\r\n")
    });
    assert_eq!(answers.get(&200), Some(&MANY), "{answers:?}");
    let stale = proxy.metric("serin_stale_connections_total", &[]);
    assert!(
        stale > 100,
        "{stale} connections died under a request: no proof"
    );
    assert_eq!(
        proxy.attempts("base", "", "failed"),
        0,
        "none counts against the pool"
    );
    assert_eq!(proxy.attempts("base", "", "ok"), MANY as u64);
}

#[test]
fn of_ten_thousand_posts_none_is_executed_twice_and_each_loss_is_told() {
    // After each answer the upstream waits for up to 20 ms, or not at all, and closes where no request has begun. What is
    // sent at that very moment nobody can save.
    let (turns, closed) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let closings = Arc::clone(&closed);
    let executed = Executed::default();
    let record = executed.clone();
    let upstream = Upstream::scripted(move |mut exchange| {
        while let Some((head, _)) = exchange.request() {
            record.note(&head);
            exchange.write(&reply("x"));
            let nth = turns.fetch_add(1, Ordering::SeqCst) as u64;
            let patience = if nth.is_multiple_of(8) {
                0
            } else {
                nth * 1_237 % 20_000
            };
            if !is_asked_within(&exchange, Duration::from_micros(patience)) {
                closings.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let answers = ask_many(proxy.address(), post);
    assert_eq!(executed.twice(), Vec::<String>::new());
    let count = |status: u16| answers.get(&status).copied().unwrap_or_default();
    let (lost, closed) = (count(502), closed.load(Ordering::SeqCst));
    println!("{lost} of {MANY} lost, {closed} connections closed idle");
    assert!(closed > 100, "{closed} connections closed: no proof");
    assert_eq!(count(200) + lost, MANY, "{answers:?}");
    assert_eq!(proxy.attempts("base", "", "failed"), lost as u64);
    assert!(lost * 1_000 < MANY, "{lost} lost for {closed} closed");
}

#[test]
fn no_post_is_lost_to_an_upstream_whose_idle_timeout_is_more_than_a_second() {
    const IDLE: Duration = Duration::from_secs(2);
    let executed = Executed::default();
    let record = executed.clone();
    let upstream = Upstream::scripted(move |mut exchange| {
        let stream = exchange.stream.try_clone().expect("a second handle");
        stream.set_read_timeout(Some(IDLE)).expect("a timeout");
        while let Some((head, _)) = exchange.request() {
            record.note(&head);
            exchange.write(&reply("x"));
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut clients: Vec<Client> = (0..100).map(|_| proxy.client()).collect();
    let begin = serin::clock::now();
    for round in 0..2 {
        // The second ones come as the connections of the first are closed.
        wait_for("the timeout", || begin.elapsed() > IDLE * round);
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(&post(round as usize * 100 + at));
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
    }
    assert_eq!(executed.twice(), Vec::<String>::new());
    assert_eq!(proxy.attempts("base", "first", "ok"), 200);
}

fn post(id: usize) -> String {
    format!("POST /{id} HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi")
}

/// How often each request was carried out, by its target.
#[derive(Clone, Default)]
struct Executed(Arc<Mutex<HashMap<String, usize>>>);

impl Executed {
    fn note(&self, head: &str) {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut times = self.0.lock().expect("not poisoned");
        *times.entry(target).or_default() += 1;
    }

    fn twice(&self) -> Vec<String> {
        let times = self.0.lock().expect("not poisoned");
        let twice = times.iter().filter(|(_, times)| **times > 1);
        twice.map(|(target, _)| target.clone()).collect()
    }
}

// Half of its connections end without a word as a second request comes, the others soon after their answer.
fn closing() -> Upstream {
    let connections = AtomicUsize::new(0);
    Upstream::scripted(move |mut exchange| {
        let nth = connections.fetch_add(1, Ordering::SeqCst) as u64;
        if exchange.request().is_none() {
            return;
        }
        exchange.write(&reply("x"));
        if nth.is_multiple_of(2) {
            exchange.request();
        } else {
            spin(Duration::from_micros(nth * 37 % 400));
        }
    })
}

// Whether another request begins in time.
fn is_asked_within(exchange: &Exchange, span: Duration) -> bool {
    let stream = &exchange.stream;
    let set = |span: Option<Duration>| {
        let is_none = span == Some(Duration::ZERO);
        stream.set_nonblocking(is_none).expect("it can be set");
        let span = span.filter(|span| !span.is_zero());
        stream.set_read_timeout(span).expect("it can be set");
    };
    set(Some(span));
    let asked = stream.peek(&mut [0]).is_ok();
    set(None);
    asked
}

// A wait shorter than a sleep can be.
fn spin(span: Duration) {
    let begin = serin::clock::now();
    while begin.elapsed() < span {
        thread::yield_now();
    }
}

// Asks from four clients at once; how many answers of each status came.
fn ask_many(address: SocketAddr, request: impl Fn(usize) -> String + Sync) -> HashMap<u16, usize> {
    const CLIENTS: usize = 4;
    let ask = |client: usize| {
        let mut statuses = Vec::new();
        let mut connection = Client::connect(address);
        for id in (client..MANY).step_by(CLIENTS) {
            connection.send(&request(id));
            statuses.push(connection.answer().status);
        }
        statuses
    };
    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || ask(client)))
            .collect();
        let ended = clients
            .into_iter()
            .map(|client| client.join().expect("it ends"));
        ended.flatten().collect()
    });
    let mut counted = HashMap::new();
    for status in statuses {
        *counted.entry(status).or_default() += 1;
    }
    counted
}
