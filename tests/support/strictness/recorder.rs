//! An upstream that keeps every byte it is sent, and reads requests as strictly as the standards allow.
//!
//! Answers each whole request with 200 and closes its connection, so that what belongs to one request stands alone.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::find;

/// Written by the recorder itself to know that everything before was accepted.
const SENTINEL: &[u8] = b"SENTINEL";

pub(crate) struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: usize,
    sentinels: usize,
    seen: Vec<Seen>,
}

/// What came over one connection.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) bytes: Vec<u8>,
    pub(crate) message: Message,
}

/// A whole request, and nothing behind it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and target.
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What a strict reader takes bytes for.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// The beginning of a request.
    Partial,
    /// Two readers could disagree on it.
    Ambiguous,
    Whole(Request),
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared: Arc<Shared> = Arc::default();
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                accepting.state.lock().expect("not poisoned").open += 1;
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.keep(stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came since the last call, once every connection that was made has ended, or `patience` has. What is in the
    /// listener's queue already is waited for.
    pub(crate) fn take(&self, patience: Duration) -> Vec<Seen> {
        let sentinels = self.shared.state.lock().expect("not poisoned").sentinels;
        let mut knock = TcpStream::connect(self.address).expect("it listens");
        knock.write_all(SENTINEL).expect("it reads");
        drop(knock);
        let state = self.shared.state.lock().expect("not poisoned");
        let (mut state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, patience, |state| {
                state.open > 0 || state.sentinels == sentinels
            })
            .expect("not poisoned");
        std::mem::take(&mut state.seen)
    }
}

impl Shared {
    fn keep(&self, mut stream: TcpStream) {
        let seen = exchange(&mut stream);
        let mut state = self.state.lock().expect("not poisoned");
        state.open -= 1;
        if seen.bytes == SENTINEL {
            state.sentinels += 1;
        } else {
            state.seen.push(seen);
        }
        drop(state);
        self.changed.notify_all();
    }
}

// Reads to the connection's end; a whole request is answered as soon as it is there.
fn exchange(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let (mut is_answered, mut is_told) = (false, false);
    let mut piece = [0; 16 * 1024];
    while let Ok(len @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..len]);
        if is_answered {
            continue;
        }
        if matches!(message(&bytes), Message::Partial) {
            if !is_told && expects(&bytes) {
                is_told = true;
                _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            continue;
        }
        is_answered = true;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        _ = stream.shutdown(Shutdown::Write);
    }
    // What came behind a request belongs to it as well: nothing may follow to a server that closes.
    let message = message(&bytes);
    Seen { bytes, message }
}

fn expects(bytes: &[u8]) -> bool {
    let head = find(bytes, b"\r\n\r\n").and_then(|end| bytes.get(..end));
    head.is_some_and(|head| find(&head.to_ascii_lowercase(), b"100-continue").is_some())
}

fn message(bytes: &[u8]) -> Message {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Message::Partial;
    };
    let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
    let head = String::from_utf8_lossy(head).into_owned();
    let has_stray = |line: &str| line.contains(['\r', '\n', '\0']) || line.starts_with([' ', '\t']);
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let Some(line) = first.strip_suffix(" HTTP/1.1") else {
        return Message::Ambiguous;
    };
    if line.split(' ').count() != 2 || head.split("\r\n").any(has_stray) {
        return Message::Ambiguous;
    }
    let fields: Option<Vec<(String, &str)>> = lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])))
        })
        .collect();
    let Some(fields) = fields else {
        return Message::Ambiguous;
    };
    let all = |name: &str| -> Vec<&str> {
        let of_name = fields.iter().filter(|(known, _)| known == name);
        of_name.map(|(_, value)| *value).collect()
    };
    if all("host").len() != 1 {
        return Message::Ambiguous;
    }
    let body = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Some((Vec::new(), 0)),
        ([length], []) => {
            let is_number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
            let Some(length) = length.parse::<usize>().ok().filter(|_| is_number) else {
                return Message::Ambiguous;
            };
            rest.get(..length).map(|body| (body.to_vec(), length))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => match chunks(rest) {
            Ok(body) => body,
            Err(()) => return Message::Ambiguous,
        },
        _ => return Message::Ambiguous,
    };
    match body {
        None => Message::Partial,
        Some((_, len)) if len < rest.len() => Message::Ambiguous,
        Some((body, _)) => Message::Whole(Request {
            line: line.to_owned(),
            head: head.to_lowercase(),
            body,
        }),
    }
}

// The body and its length on the wire; `None` where it is not whole.
fn chunks(mut rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let (mut body, whole) = (Vec::new(), rest.len());
    loop {
        let Some(end) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..end]).map_err(|_| ())?;
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| ())?;
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        if rest.len() < size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&rest[..size]);
        if &rest[size..size + 2] != b"\r\n" {
            return Err(());
        }
        rest = &rest[size + 2..];
    }
    loop {
        let Some(end) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let is_last = end == 0;
        rest = &rest[end + 2..];
        if is_last {
            return Ok(Some((body, whole - rest.len())));
        }
    }
}
