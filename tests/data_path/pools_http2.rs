//! HTTP/2 to the pools: requests share connections, and what a server says of its end is obeyed.

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::thread;

use http::{HeaderMap, Method, Request};

use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, WINDOW_UPDATE, ask, connect, frame,
    get, run,
};
use crate::support::http2_upstream::{FrameConnection, FrameServer};
use crate::support::{Client, Proxy, Upstream, closed, only, reply, rollout, wait_for};

const H2C: &str = "protocol = \"h2c\"";
const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello";

/// `:status: 200`, from the static table (RFC 7541, A).
const INDEXED_200: u8 = 0x88;

// Error codes of RFC 9113, 7.
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// What an upstream that speaks HTTP/2 well was asked.
#[derive(Debug)]
struct Asked {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// A server made with a library: it answers 200 with `answer` and trailers, and tells what it was asked.
fn library_server(answer: &'static [u8]) -> (std::net::SocketAddr, mpsc::Receiver<Asked>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    listener.set_nonblocking(true).expect("it can be set");
    let (tell, asked) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let tell = tell.clone();
                        tokio::task::spawn_local(serve(request, respond, answer, tell));
                    }
                });
            }
        });
    });
    (address, asked)
}

async fn serve(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    answer: &'static [u8],
    tell: mpsc::Sender<Asked>,
) {
    let (parts, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(piece)) = stream.data().await {
        stream
            .flow_control()
            .release_capacity(piece.len())
            .expect("it was taken");
        body.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await.expect("trailers or none");
    let asked = Asked {
        method: parts.method,
        uri: parts.uri.to_string(),
        headers: parts.headers,
        body,
        trailers,
    };
    tell.send(asked).expect("the test listens");
    let head = http::Response::builder().header("x-a", "b").body(());
    let mut sending = respond
        .send_response(head.expect("a head"), false)
        .expect("it is sent");
    sending
        .send_data(bytes::Bytes::from_static(answer), false)
        .expect("it is sent");
    let trailers = [("x-sum", "7")].map(|(name, value)| {
        let name = http::HeaderName::from_static(name);
        (name, http::HeaderValue::from_static(value))
    });
    sending
        .send_trailers(trailers.into_iter().collect())
        .expect("it is sent");
}

#[test]
fn a_request_of_either_version_becomes_one_of_http2() {
    let (address, asked) = library_server(b"answer");
    let proxy = Proxy::start("", &only(&[address], H2C));
    let answer = proxy.ask(
        "POST /a?b=c HTTP/1.1\r\nHost: h.example:81\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nCookie: x=1\r\n\
         TE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-a"), Some("b"));
    assert!(answer.text().contains("answer"), "{}", answer.text());
    let by_http1 = asked.recv().expect("it was asked");
    run(async {
        let client = connect(proxy.address()).await;
        let request = Request::post("http://h.example:81/a?b=c")
            .header("cookie", "x=1")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let answer = ask(&client, request, b"hello").await.expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"answer"[..]));
        assert_eq!(answer.trailers.expect("trailers")["x-sum"], "7");
    });
    let by_http2 = asked.recv().expect("it was asked");
    for asked in [by_http1, by_http2] {
        assert_eq!(asked.method, "POST");
        assert_eq!(asked.uri, "http://h.example:81/a?b=c");
        assert_eq!(asked.body, b"hello");
        assert!(asked.trailers.is_none());
        for (name, value) in [
            ("cookie", "x=1"),
            ("te", "trailers"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "h.example:81"),
        ] {
            assert_eq!(asked.headers[name], value, "{asked:?}");
        }
        for gone in ["host", "connection", "transfer-encoding", "x-mine"] {
            assert!(!asked.headers.contains_key(gone), "{gone}: {asked:?}");
        }
    }
    assert_eq!(proxy.attempts("base", "first", "ok"), 2);
}

#[test]
fn trailers_of_a_request_pass_but_for_what_is_no_trailer() {
    let (address, asked) = library_server(b"x");
    let proxy = Proxy::start("", &only(&[address], H2C));
    run(async {
        let client = connect(proxy.address()).await;
        let mut client = client.ready().await.expect("it is open");
        let request = Request::post("http://h/").body(()).expect("a request");
        let (answer, mut upload) = client.send_request(request, false).expect("it is sent");
        upload.send_data("hello".into(), false).expect("it is sent");
        let trailers = [("x-sum", "9"), ("content-length", "3")].map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        });
        upload
            .send_trailers(trailers.into_iter().collect())
            .expect("it is sent");
        assert_eq!(answer.await.expect("an answer").status(), 200);
    });
    let trailers = asked.recv().expect("it was asked").trailers;
    let trailers = trailers.expect("trailers");
    assert_eq!(trailers["x-sum"], "9");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
}

#[test]
fn many_requests_share_one_connection_opened_once() {
    const MANY: usize = 60;
    let (arrived, arrivals) = mpsc::channel();
    let arrived = Mutex::new(arrived);
    let server = FrameServer::scripted(&[], move |mut connection| {
        let mut streams = Vec::new();
        while let Some(stream) = connection.request() {
            streams.push(stream);
            if streams.len() == MANY {
                for stream in streams.drain(..) {
                    connection.answer(stream, b"x");
                }
                let told = arrived.lock().expect("nobody panicked").send(());
                told.expect("the test listens");
            }
        }
    });
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    run(async {
        let client = connect(proxy.address()).await;
        let asking = (0..MANY).map(|_| {
            let client = client.clone();
            tokio::task::spawn_local(async move { ask(&client, get("http://h/"), b"").await })
        });
        for answer in asking.collect::<Vec<_>>() {
            let answer = answer.await.expect("it ends").expect("an answer");
            assert_eq!((answer.status, &answer.body[..]), (200, &b"x"[..]));
        }
    });
    arrivals.recv().expect("all were there at once");
    assert_eq!(server.connections(), 1);
    assert_eq!(proxy.attempts("base", "first", "ok"), MANY as u64);
}

#[test]
fn a_full_connection_is_followed_by_another() {
    // SETTINGS_MAX_CONCURRENT_STREAMS = 2.
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let server = FrameServer::scripted(&[0, 3, 0, 0, 0, 2], move |mut connection| {
        while let Some(stream) = connection.request() {
            let socket = connection.stream.try_clone().expect("a socket");
            tell.lock()
                .expect("nobody panicked")
                .send((connection.number, stream, socket))
                .expect("the test listens");
        }
    });
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    let mut carried = [0; 3];
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let (number, stream, socket) = told.recv().expect("a request");
        carried[number - 1] += 1;
        waiting.push((stream, socket));
    }
    assert_eq!(carried[0], 2);
    carried.sort_unstable();
    assert_eq!(carried, [1, 2, 2]);
    for (stream, mut socket) in waiting {
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &[INDEXED_200]);
        socket.write_all(&head).expect("it reads");
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn idle_connections_are_closed_with_a_goaway() {
    let server = FrameServer::answering(&[], b"x");
    let timeouts = "timeouts = { idle = \"200ms\" }";
    let proxy = Proxy::start(
        "",
        &only(&[server.address()], &format!("{H2C}\n{timeouts}")),
    );
    assert_eq!(proxy.ask(GET).status, 200);
    let idle = || proxy.live.load().pools()[0].endpoints[0].connections_idle;
    wait_for("the end of the connection", || {
        !server.came(GOAWAY).is_empty()
    });
    assert_eq!(idle(), 0);
    assert_eq!(proxy.ask(GET).status, 200);
    assert_eq!(server.connections(), 2);
}

// Gives the n-th request of the whole server to `fate`, which answers none or what it likes; others get 200.
fn faulty(
    settings: &'static [u8],
    fate: impl Fn(&mut FrameConnection, u32, usize) -> bool + Send + Sync + 'static,
) -> FrameServer {
    let count = std::sync::atomic::AtomicUsize::new(0);
    FrameServer::scripted(settings, move |mut connection| {
        while let Some(stream) = connection.request() {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            if !fate(&mut connection, stream, nth) {
                connection.answer(stream, b"x");
            }
        }
    })
}

#[test]
fn what_a_goaway_says_was_not_processed_goes_again_whatever_its_method() {
    for request in [GET, POST] {
        let server = faulty(&[], |connection, stream, nth| {
            // The first is answered; of the second nothing was done.
            nth == 2 && connection.go_away(stream - 2, NO_ERROR)
        });
        let proxy = Proxy::start("", &only(&[server.address()], H2C));
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send(request);
            assert_eq!(client.answer().status, 200, "{request}");
        }
        assert_eq!((server.requests(), server.connections()), (3, 2));
        let bodies: Vec<Vec<u8>> = server.came(DATA).into_iter().map(|c| c.payload).collect();
        if request == POST {
            assert_eq!(bodies.concat(), b"hello".repeat(3));
        }
        assert_eq!(proxy.attempts("base", "", ""), 2, "it was no attempt");
        assert_eq!(proxy.metric("serin_stale_connections_total", &[]), 1);
    }
}

#[test]
fn streams_up_to_the_last_of_a_goaway_are_answered_and_later_requests_go_elsewhere() {
    let server = faulty(&[], |connection, stream, nth| {
        if nth != 1 {
            return false;
        }
        connection.go_away(stream, NO_ERROR);
        // Another request comes over another connection while this one is still unanswered.
        false
    });
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    for _ in 0..3 {
        assert_eq!(proxy.ask(POST).status, 200);
    }
    assert_eq!((server.requests(), server.connections()), (3, 2));
    assert_eq!(proxy.attempts("base", "first", "ok"), 3);
}

#[test]
fn a_stream_that_may_have_been_processed_goes_again_only_where_that_is_safe() {
    type Fate = fn(&mut FrameConnection, u32) -> bool;
    let refused: Fate = |connection, stream| connection.reset(stream, REFUSED_STREAM);
    let reset: Fate = |connection, stream| connection.reset(stream, INTERNAL_ERROR);
    let closed: Fate = |connection, _| connection.stream.shutdown(std::net::Shutdown::Both).is_ok();
    let garbage: Fate = |connection, stream| connection.send(HEADERS, 4, stream, &[0xff; 8]);
    let twice: Fate = |connection, stream| {
        connection.go_away(stream, NO_ERROR);
        connection.stream.shutdown(std::net::Shutdown::Both).is_ok()
    };
    for (name, fate, request, status, error, requests) in [
        ("refused", refused, GET, 200, None, 2),
        ("refused", refused, POST, 200, None, 2),
        ("reset", reset, GET, 200, None, 2),
        ("reset", reset, POST, 502, Some("reset"), 1),
        ("closed", closed, POST, 502, Some("reset"), 1),
        ("garbage", garbage, GET, 200, None, 2),
        ("garbage", garbage, POST, 502, Some("bad_answer"), 1),
        ("goaway, then closed", twice, POST, 502, Some("reset"), 1),
    ] {
        let server = faulty(&[], move |connection, stream, nth| {
            nth == 1 && fate(connection, stream)
        });
        let proxy = Proxy::start("", &only(&[server.address()], H2C));
        let answer = proxy.ask(request);
        let found = (answer.status, answer.header("x-serin-error"));
        assert_eq!(found, (status, error), "{name}: {request}");
        assert_eq!(server.requests(), requests, "{name}: {request}");
        assert_eq!(proxy.attempts("base", "first", "failed"), 1, "{name}");
    }
}

#[test]
fn a_connection_that_dies_as_it_is_reused_loses_no_request_that_may_be_repeated() {
    let server = faulty(&[], |connection, _, nth| {
        nth == 2 && connection.stream.shutdown(std::net::Shutdown::Both).is_ok()
    });
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    for _ in 0..2 {
        assert_eq!(proxy.ask(GET).status, 200);
    }
    assert_eq!((server.requests(), server.connections()), (3, 2));
    assert_eq!(proxy.metric("serin_stale_connections_total", &[]), 1);
    assert_eq!(proxy.attempts("base", "", ""), 2);
}

#[test]
fn an_answer_that_is_stopped_in_the_middle_is_never_taken_for_the_whole() {
    // A reset that tells of no error is lawful after the end of an answer, and only then (RFC 9113, 8.1).
    for (code, is_whole) in [(NO_ERROR, false), (CANCEL, false), (NO_ERROR, true)] {
        let server = FrameServer::scripted(&[], move |mut connection| {
            while let Some(stream) = connection.request() {
                connection.head(stream, &[]);
                connection.send(DATA, u8::from(is_whole), stream, b"half");
                connection.reset(stream, code);
            }
        });
        let proxy = Proxy::start("", &only(&[server.address()], H2C));
        run(async {
            let client = connect(proxy.address()).await;
            let answer = ask(&client, get("http://h/"), b"").await;
            assert_eq!(answer.is_ok(), is_whole, "{code}: {answer:?}");
        });
        let mut client = proxy.client();
        client.send(GET);
        if is_whole {
            assert!(client.head().starts_with("http/1.1 200"));
        } else {
            // Where the reset is heard before the head was written, not even that is.
            let said = String::from_utf8(client.rest()).expect("text");
            assert!(!said.ends_with("0\r\n\r\n"), "{said:?}");
        }
        let outcome = if is_whole { "ok" } else { "failed" };
        wait_for("both to be counted", || {
            proxy.attempts("base", "first", outcome) == 2
        });
        assert_eq!(server.connections(), 1, "a stream's end is no connection's");
    }
}

#[test]
fn who_leaves_takes_his_stream_with_him_and_nobody_elses() {
    let (arrived, arrivals) = mpsc::channel();
    let arrived = Mutex::new(arrived);
    let (go, proceed) = mpsc::channel::<()>();
    let proceed = Mutex::new(proceed);
    let server = FrameServer::scripted(&[], move |mut connection| {
        let first = connection.request().expect("a request");
        let second = connection.request().expect("a request");
        arrived
            .lock()
            .expect("nobody panicked")
            .send(())
            .expect("the test listens");
        let reset = connection.find(RST_STREAM).expect("a reset");
        assert_eq!(reset.payload, CANCEL.to_be_bytes());
        let other = if reset.stream == first { second } else { first };
        let wait = proceed.lock().expect("nobody panicked").recv();
        wait.expect("the test speaks");
        connection.answer(other, b"x");
        connection.find(GOAWAY);
    });
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    let (mut leaves, mut stays) = (proxy.client(), proxy.client());
    leaves.send(GET);
    stays.send(GET);
    arrivals.recv().expect("both are there");
    leaves.leave();
    wait_for("the reset", || server.came(RST_STREAM).len() == 1);
    go.send(()).expect("it waits");
    assert_eq!(stays.answer().status, 200);
    assert_eq!(server.connections(), 1);
    assert_eq!(proxy.attempts("base", "first", "abandoned"), 1);
    assert_eq!(proxy.attempts("base", "first", "ok"), 1);
}

#[test]
fn an_upload_that_breaks_off_is_reset_and_never_ended() {
    let server = FrameServer::answering(&[], b"x");
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nhello");
    wait_for("the first part", || !server.came(DATA).is_empty());
    client.leave();
    wait_for("the reset", || !server.came(RST_STREAM).is_empty());
    assert_eq!(server.came(RST_STREAM)[0].payload, CANCEL.to_be_bytes());
    let ends = server.came(DATA).iter().any(|came| came.flags & 1 != 0);
    assert!(!ends, "{:?}", server.came(DATA));
    assert_eq!(proxy.ask(GET).status, 200);
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_server_with_a_closed_window_holds_up_nobody_else() {
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: nothing can be sent before the stream's window is opened.
    let (go, proceed) = mpsc::channel::<()>();
    let proceed = Mutex::new(proceed);
    let server = FrameServer::scripted(&[0, 4, 0, 0, 0, 0], move |mut connection| {
        let upload = connection.find(HEADERS).expect("a request").stream;
        let other = connection.request().expect("another request");
        connection.answer(other, b"x");
        let wait = proceed.lock().expect("nobody panicked").recv();
        wait.expect("the test speaks");
        connection.send(WINDOW_UPDATE, 0, upload, &5_u32.to_be_bytes());
        let came = connection.request().expect("the body");
        assert_eq!(came, upload);
        connection.answer(upload, b"y");
        connection.find(GOAWAY);
    });
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    let mut slow = proxy.client();
    slow.send(POST);
    wait_for("the upload's head", || server.requests() == 1);
    assert!(proxy.ask(GET).text().contains('x'));
    assert!(server.came(DATA).is_empty(), "its window is closed");
    go.send(()).expect("it waits");
    assert!(slow.answer().text().contains('y'));
    assert_eq!(server.connections(), 1);
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let answer: &'static [u8] = body.clone().leak();
    let (address, asked) = library_server(answer);
    let proxy = Proxy::start("", &only(&[address], H2C));
    run(async {
        let client = connect(proxy.address()).await;
        let request = Request::post("http://h/").body(()).expect("a request");
        let answer = ask(&client, request, &body).await.expect("an answer");
        assert!(answer.body == body, "{} bytes", answer.body.len());
    });
    let asked = asked.recv().expect("it was asked");
    assert!(asked.body == body, "{} bytes", asked.body.len());
}

#[test]
fn a_server_that_speaks_no_http2_is_no_connection() {
    let http1 = Upstream::scripted(|mut exchange| {
        exchange.write("HTTP/1.1 400 Bad Request\r\n\r\n");
        exchange.end();
    });
    let silent = Upstream::scripted(|mut exchange| {
        exchange.end();
    });
    for (address, status, error) in [
        (http1.address(), 502, "connect_failed"),
        (closed(), 502, "connect_failed"),
        (silent.address(), 504, "timeout"),
    ] {
        let more =
            format!("{H2C}\ntimeouts = {{ connect = \"200ms\" }}\nretries = {{ attempts = 0 }}");
        let proxy = Proxy::start("", &only(&[address], &more));
        let answer = proxy.ask(POST);
        let found = (answer.status, answer.header("x-serin-error"));
        assert_eq!(found, (status, Some(error)));
        assert_eq!(proxy.attempts("base", "first", "failed"), 1);
    }
}

#[test]
fn a_server_that_went_silent_gets_no_further_request_on_that_connection() {
    let server = FrameServer::scripted(&[], |mut connection| {
        while let Some(stream) = connection.request() {
            if connection.number > 1 {
                connection.answer(stream, b"x");
            }
        }
    });
    let more = format!("{H2C}\ntimeouts = {{ answer_head = \"200ms\" }}");
    let proxy = Proxy::start("", &only(&[server.address()], &more));
    let answer = proxy.ask(POST);
    assert_eq!(
        (answer.status, answer.header("x-serin-error")),
        (504, Some("timeout"))
    );
    assert_eq!(proxy.ask(POST).status, 200);
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_canary_that_refuses_is_answered_for_by_baseline_and_counted() {
    let base = Upstream::answering(reply("base"));
    let new = faulty(&[], |connection, stream, _| {
        connection.reset(stream, REFUSED_STREAM)
    });
    let text = rollout(&[base.address()], &[new.address()], "");
    let text = text.replace("[pools.new]", "[pools.new]\nprotocol = \"h2c\"");
    let mut proxy = Proxy::start("", &text);
    proxy.set_weight("100%");
    let answer = proxy
        .ask("POST / HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!((answer.status, answer.text().as_str()), (200, "base"));
    assert_eq!(proxy.arm("canary", "failed"), 1);
    assert_eq!(proxy.arms(), 1);
}
