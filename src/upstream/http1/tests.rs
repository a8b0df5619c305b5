//! Answers of all kinds, read in any pieces and beside the library that was our client before; exchanges over a pipe.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::exchange::{Answered, Unanswered, carry_on, exchange};
use super::fuzz::{End, read};
use super::{Body, Error, Pipe, RequestHead, Shared, Spelling};

/// Answers, good and bad.
const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: 1\r\nx-a: 2\r\n\r\nbody and more",
    "HTTP/1.1 200 OK\r\n\r\nto the end",
    "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nold",
    "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nxyz",
    "HTTP/1.1 304 Not Modified\r\n\r\n",
    "HTTP/1.1 500 Oh no\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200\tOK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1  200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 999 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 gr\u{fc}n\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 a\x01b\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "http/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "ICY 200 OK\r\n\r\n",
    "\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    "\n\nHTTP/1.1 200 OK\ncontent-length: 1\n\nx",
    "\rHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\ncontent-length: 1\r\n\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\rx",
    "HTTP/1.1 200 OK\r\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx: \t a b \t \r\nempty:\r\nblank: \t\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\n x: a\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\n: a\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx: \x7f\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx: \u{e9}\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx\u{e9}: a\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\n!#$%&'*+-.^_`|~: a\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\n(x): a\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy",
    "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: 0x1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n1;a=\"b\"\r\ny\r\n0\r\n\r\nmore",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\nA \t\r\n0123456789\r\n00\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-A: 1\r\nx-b: \r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbodymore\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\nbody\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n 4\r\nbody\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-4\r\nbody\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4 x\r\nbody\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4;\nbody\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\nx",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbo",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 103 Early Hints\r\nlink\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 103 Early Hints\r\ncontent-length: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\ncontent-le",
    "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
    "HTTP/1.1",
    "",
    "garbage",
    "\0\x01garbage\r\n\r\n",
];

fn seed() -> u64 {
    let given = std::env::var("SERIN_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("SERIN_SEED={seed}");
    seed
}

// An answer of the corpus with a few of its bytes exchanged, left out, doubled or taken from another one.
fn mutant(random: &mut StdRng) -> Vec<u8> {
    const BYTES: &[u8] = b"\r\n \t:;,0123456789aAfFxHTP/.\0\x7f\xe9";
    let pick = |random: &mut StdRng| ANSWERS[random.random_range(0..ANSWERS.len())].as_bytes();
    let mut bytes = pick(random).to_vec();
    for _ in 0..random.random_range(0..4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] = BYTES[random.random_range(0..BYTES.len())],
            1 => _ = bytes.remove(at),
            2 => bytes.insert(at, bytes[at]),
            3 => bytes.insert(at, BYTES[random.random_range(0..BYTES.len())]),
            _ => {
                let other = pick(random);
                let from = random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

#[test]
fn an_answer_is_the_same_in_whatever_pieces_it_comes() {
    let mut random = StdRng::seed_from_u64(seed());
    let check = |bytes: &[u8], piece: usize| {
        for method in [Method::GET, Method::HEAD] {
            let (whole, split) = (
                read(bytes, bytes.len(), &method),
                read(bytes, piece, &method),
            );
            assert_eq!(whole, split, "{} by {piece}", bytes.escape_ascii());
        }
    };
    for answer in ANSWERS {
        for piece in 1..12 {
            check(answer.as_bytes(), piece);
        }
    }
    for _ in 0..20_000 {
        let bytes = mutant(&mut random);
        check(&bytes, random.random_range(1..40));
    }
}

#[test]
fn an_answer_ends_where_it_says() {
    let check = |answer: &str, method: Method, body: &str, behind: &str| {
        let read = read(answer.as_bytes(), answer.len(), &method);
        let end = answer.len() - behind.len();
        assert_eq!(read.end, End::After(end), "{answer}");
        assert_eq!(read.body, body.as_bytes(), "{answer}");
    };
    let sized = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";
    check(sized, Method::GET, "body", "");
    check(sized, Method::HEAD, "", "body");
    let chunks =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\nHTTP";
    check(chunks, Method::GET, "body", "HTTP");
    check("HTTP/1.1 204 No Content\r\n\r\nx", Method::GET, "", "x");
    check(
        "HTTP/1.1 101 Switching Protocols\r\n\r\nx",
        Method::GET,
        "",
        "x",
    );
    let early = format!("HTTP/1.1 103 Early Hints\r\ncontent-length: 9\r\n\r\n{sized}");
    check(&early, Method::GET, "body", "");
}

#[test]
fn a_head_has_at_most_a_hundred_headers() {
    let answer = |count: usize| {
        let lines = "x: y\r\n".repeat(count - 1);
        format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n")
    };
    let end = |text: &str| read(text.as_bytes(), text.len(), &Method::GET).end;
    let most = answer(100);
    assert_eq!(end(&most), End::After(most.len()));
    assert_eq!(end(&answer(101)), End::Fault);
    let endless = answer(500);
    assert_eq!(
        end(&endless[..endless.len() - 2]),
        End::Fault,
        "no end to wait for"
    );
}

/// What a client made of some bytes.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time")]
enum Made {
    /// Whether it is known to be malformed.
    Nothing { is_malformed: bool },
    Answer {
        status: StatusCode,
        reason: Option<Vec<u8>>,
        headers: HeaderMap,
        body: Vec<u8>,
        trailers: Option<HeaderMap>,
        is_whole: bool,
    },
}

async fn collected<B: http_body::Body<Data = Bytes> + Unpin>(
    head: http::response::Parts,
    mut incoming: B,
) -> Made {
    let (mut body, mut trailers, mut is_whole) = (Vec::new(), None, true);
    while let Some(frame) = incoming.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => body.extend_from_slice(&data),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(_) => {
                is_whole = false;
                break;
            }
        }
    }
    let reason = head.extensions.get::<hyper::ext::ReasonPhrase>();
    Made::Answer {
        status: head.status,
        reason: reason.map(|reason| reason.as_bytes().to_vec()),
        headers: head.headers,
        body,
        trailers,
        is_whole,
    }
}

// A server that says this and ends.
fn server(bytes: &[u8]) -> DuplexStream {
    let (ours, mut theirs) = duplex(64 * 1024);
    let bytes = bytes.to_vec();
    tokio::task::spawn_local(async move {
        // Not before it was asked.
        theirs.read_u8().await.expect("a request");
        theirs.write_all(&bytes).await.expect("there is room");
        theirs.shutdown().await.expect("it is open");
        _ = theirs.read_to_end(&mut Vec::new()).await.is_ok();
    });
    ours
}

async fn by_hyper(bytes: &[u8]) -> Made {
    let io = TokioIo::new(server(bytes));
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io)
        .await
        .expect("nothing is waited for");
    let driver = tokio::task::spawn_local(driver);
    let request = Request::get("/").header("host", "h");
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let made = match sender.send_request(request).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            collected(head, body).await
        }
        Err(error) => Made::Nothing {
            is_malformed: error.is_parse(),
        },
    };
    driver.abort();
    made
}

fn piped(stream: DuplexStream) -> Shared<DuplexStream> {
    Rc::new(RefCell::new(Pipe::new(stream)))
}

async fn sent<B: http_body::Body<Data = Bytes> + Unpin>(
    pipe: &Shared<DuplexStream>,
    method: Method,
    body: B,
) -> Result<Answered<B>, Unanswered> {
    let (headers, spelling) = (HeaderMap::new(), Spelling::default());
    let head = RequestHead {
        method: &method,
        target: &Uri::from_static("/"),
        headers: &headers,
        set: &[],
        host: "h",
        spelling: &spelling,
    };
    exchange(pipe, head, body, || {}).await
}

async fn by_ours(bytes: &[u8]) -> Made {
    let pipe = piped(server(bytes));
    match sent(&pipe, Method::GET, Empty::new()).await {
        Ok(answered) => collected(answered.parts, Body::new(&pipe)).await,
        Err(unanswered) => Made::Nothing {
            is_malformed: matches!(unanswered.error, Error::Malformed(_)),
        },
    }
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

// Where a trailer holds a bare LF, hyper makes two of it if it has room, and we make none.
fn is_ours_alone(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let behind = text.split_once("0\r\n").map_or("", |(_, behind)| behind);
    behind.replace("\r\n", "").contains('\n')
}

#[test]
fn hyper_would_read_the_same_of_any_answer() {
    let mut random = StdRng::seed_from_u64(seed());
    run(async {
        let known = ANSWERS.iter().map(|answer| answer.as_bytes().to_vec());
        let mutants = (0..3_000).map(|_| mutant(&mut random));
        for bytes in known.chain(mutants).filter(|bytes| !is_ours_alone(bytes)) {
            let (ours, hypers) = (by_ours(&bytes).await, by_hyper(&bytes).await);
            // Of a head that ends early we may know sooner that it is none.
            let is_sooner = matches!(
                (&ours, &hypers),
                (
                    Made::Nothing { is_malformed: true },
                    Made::Nothing {
                        is_malformed: false
                    }
                )
            );
            assert!(
                is_sooner || ours == hypers,
                "{}: {ours:?}, and by hyper {hypers:?}",
                bytes.escape_ascii()
            );
        }
    });
}

#[test]
fn a_connection_is_kept_only_where_both_sides_say_so_and_nothing_follows() {
    let check = |answer: &'static str, expected: bool| {
        run(async {
            let (ours, mut theirs) = duplex(1024);
            let pipe = piped(ours);
            theirs
                .write_all(answer.as_bytes())
                .await
                .expect("there is room");
            let answered = sent(&pipe, Method::GET, Empty::new()).await;
            answered.expect("an answer");
            let whole = Body::new(&pipe).collect().await;
            whole.expect("a whole answer");
            assert_eq!(pipe.borrow().is_ready(), expected, "{answer}");
        });
    };
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", true),
        (
            "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 1\r\n\r\nx",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx",
            false,
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", false),
        (
            "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 1\r\n\r\nx",
            true,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy", false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\r\n",
            false,
        ),
    ] {
        check(answer, expected);
    }
}

#[test]
fn what_comes_on_an_idle_connection_is_heard() {
    run(async {
        let (ours, mut theirs) = duplex(1024);
        let pipe = piped(ours);
        let stir = |pipe: &Shared<DuplexStream>| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            pipe.borrow_mut().poll_stir(&mut cx).is_ready()
        };
        assert!(!stir(&pipe));
        assert!(pipe.borrow().is_ready());
        theirs.write_all(b"H").await.expect("there is room");
        assert!(stir(&pipe));
        assert!(!pipe.borrow().is_ready());
        assert!(pipe.borrow().is_between(), "nobody owes anybody a byte");
    });
}

/// A body of pieces, and whether it ends behind them.
struct Pieces(Vec<&'static str>, bool);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if !self.0.is_empty() {
            let piece = self.0.remove(0);
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))));
        }
        if self.1 {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

#[test]
fn a_head_and_a_small_body_leave_in_one_piece() {
    run(async {
        let (ours, mut theirs) = duplex(64 * 1024);
        let pipe = piped(ours);
        let asking = sent(&pipe, Method::POST, Full::new(Bytes::from_static(b"hello")));
        let mut asking = std::pin::pin!(asking);
        poll_fn(|cx| {
            assert!(asking.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let mut seen = [0; 1024];
        let len = theirs.read(&mut seen).await.expect("a request");
        let seen = String::from_utf8_lossy(&seen[..len]);
        assert_eq!(
            seen,
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello"
        );
    });
}

#[test]
fn an_answer_may_come_before_its_request_is_through() {
    run(async {
        let (ours, mut theirs) = duplex(64 * 1024);
        let pipe = piped(ours);
        theirs
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .expect("there is room");
        let answered = sent(&pipe, Method::POST, Pieces(vec!["a", "bc"], false)).await;
        let answered = answered.expect("an answer");
        let rest = answered.rest.expect("the body has not ended");
        let whole = Body::new(&pipe).collect().await.expect("a whole answer");
        assert_eq!(whole.to_bytes(), "ok");
        assert!(!pipe.borrow().is_ready(), "the request is not through");
        assert!(!pipe.borrow().is_between());
        carry_on(Rc::clone(&pipe), Pieces(vec!["d"], true)).await;
        drop(rest);
        assert!(pipe.borrow().is_ready());
        let expected = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n";
        let mut seen = vec![0; expected.len()];
        theirs.read_exact(&mut seen).await.expect("all of it");
        assert_eq!(String::from_utf8_lossy(&seen), expected);
    });
}

#[test]
fn who_takes_no_more_may_have_answered_all_the_same() {
    run(async {
        let (ours, mut theirs) = duplex(64 * 1024);
        theirs
            .write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
            .await
            .expect("there is room");
        drop(theirs);
        let pipe = piped(ours);
        let answered = sent(&pipe, Method::POST, Pieces(vec!["a"], true)).await;
        let answered = answered.expect("an answer");
        assert_eq!(answered.parts.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(!pipe.borrow().is_ready());

        let (ours, theirs) = duplex(1024);
        drop(theirs);
        let pipe = piped(ours);
        let unanswered = sent(&pipe, Method::GET, Empty::new()).await;
        let unanswered = unanswered.expect_err("nobody is there");
        assert!(unanswered.was_unsent, "not a byte has left");
        assert!(matches!(unanswered.error, Error::Io(_)));
    });
}

#[test]
fn a_large_body_waits_for_who_takes_it() {
    run(async {
        const ALL: usize = 1 << 20;
        let (ours, mut theirs) = duplex(16 * 1024);
        let pipe = piped(ours);
        let body = Full::new(Bytes::from(vec![b'x'; ALL]));
        let reading = async {
            let mut seen = Vec::new();
            while seen.len() < ALL {
                theirs.read_buf(&mut seen).await.expect("more");
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            theirs.write_all(answer).await.expect("there is room");
            let end = seen.split_off(seen.len() - 10);
            assert_eq!(end, b"xxxxxxxxxx");
            pending::<()>().await;
        };
        tokio::select! {
            answered = sent(&pipe, Method::PUT, body) => {
                assert!(answered.expect("an answer").rest.is_none());
            }
            () = reading => {}
        }
        assert!(pipe.borrow().is_ready());
        assert!(Body::new(&pipe).is_end_stream());
    });
}
