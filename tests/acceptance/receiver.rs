//! A receiver of calls: a plain HTTP server that keeps what it was sent and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::pause;

/// Answers with this status, and keeps what came.
pub(crate) struct Receiver {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    status: AtomicU16,
    silent: bool,
    stop: AtomicBool,
    calls: Mutex<Vec<Received>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Receiver {
    pub(crate) fn start(addr: SocketAddr) -> Self {
        Self::with(addr, false)
    }

    /// One that takes connections and never says a word.
    pub(crate) fn silent(addr: SocketAddr) -> Self {
        Self::with(addr, true)
    }

    fn with(addr: SocketAddr, silent: bool) -> Self {
        let listener = TcpListener::bind(addr).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let shared = Arc::new(Shared {
            status: AtomicU16::new(200),
            silent,
            stop: AtomicBool::new(false),
            calls: Mutex::default(),
        });
        let kept = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &kept));
        Self { addr, shared }
    }

    pub(crate) fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> Vec<Received> {
        self.shared.calls.lock().expect("whole").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut open = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) if shared.silent => open.push(stream),
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
            Err(_) => pause(),
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let Some(call) = stream
        .set_nonblocking(false)
        .ok()
        .and_then(|()| read(&stream))
    else {
        return;
    };
    let status = shared.status.load(Ordering::SeqCst);
    shared.calls.lock().expect("whole").push(call);
    let answer =
        format!("HTTP/1.1 {status} Said\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    drop((&stream).write_all(answer.as_bytes()));
}

fn read(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let path = line()?.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().expect("a number"))];
    reader.read_exact(&mut body).ok()?;
    Some(Received {
        path,
        headers,
        body,
    })
}
