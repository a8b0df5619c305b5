//! A server that does as it is told, one thread per connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use super::client::{find, value};

/// A listening server. Its threads end with their connections.
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What a script gets: one connection from the proxy.
pub(crate) struct Exchange {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
}

struct Shared {
    connections: AtomicUsize,
    requests: AtomicUsize,
    heads: Mutex<Vec<String>>,
}

/// A 200 with this body.
pub(crate) fn reply(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Upstream {
    /// Runs `script` for every connection.
    pub(crate) fn scripted(script: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::scripted_on(listener, script)
    }

    fn scripted_on(
        listener: TcpListener,
        script: impl Fn(Exchange) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            heads: Mutex::default(),
        });
        let script = Arc::new(script);
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let exchange = Exchange {
                    stream,
                    buffer: Vec::new(),
                    shared: Arc::clone(&accepting),
                };
                let script = Arc::clone(&script);
                thread::spawn(move || script(exchange));
            }
        });
        Self { address, shared }
    }

    /// Answers each request with `x` when the test says so.
    pub(crate) fn told() -> (Self, mpsc::Sender<()>) {
        let (go, told) = mpsc::channel();
        let told = Mutex::new(told);
        let upstream = Self::scripted(move |mut exchange| {
            while exchange.request().is_some() {
                if told.lock().expect("nobody panicked").recv().is_err() {
                    return;
                }
                exchange.write(&reply("x"));
            }
        });
        (upstream, go)
    }

    /// Answers every request with these bytes.
    pub(crate) fn answering(bytes: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::answering_on(listener, bytes)
    }

    /// The same on a socket that listens already.
    pub(crate) fn answering_on(listener: TcpListener, bytes: impl Into<String>) -> Self {
        let bytes = bytes.into();
        Self::scripted_on(listener, move |mut exchange| {
            while exchange.request().is_some() {
                exchange.write(&bytes);
            }
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The head of the last request, as it came.
    pub(crate) fn last_head(&self) -> String {
        let heads = self.shared.heads.lock().expect("nobody panicked");
        heads.last().cloned().expect("there was a request")
    }
}

impl Exchange {
    /// Reads one request's head; `None` when the proxy closed.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let head = String::from_utf8(head).expect("a head is text");
                self.shared
                    .heads
                    .lock()
                    .expect("nobody panicked")
                    .push(head.clone());
                self.shared.requests.fetch_add(1, Ordering::SeqCst);
                return Some(head);
            }
            if self.fill().ok()? == 0 {
                return None;
            }
        }
    }

    /// Reads one request whole: head, and body as it came on the wire.
    pub(crate) fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let body = if let Some(len) = value(&head, "content-length") {
            self.exactly(len.parse().ok()?)?
        } else if value(&head, "transfer-encoding").is_some() {
            self.until(b"0\r\n").and_then(|mut body| {
                body.extend(self.until(b"\r\n\r\n").or_else(|| Some(Vec::new()))?);
                Some(body)
            })?
        } else {
            Vec::new()
        };
        Some((head, body))
    }

    pub(crate) fn exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < len {
            if self.fill().ok()? == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..len).collect())
    }

    /// Reads on to these bytes.
    pub(crate) fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, mark) {
                return Some(self.buffer.drain(..at + mark.len()).collect());
            }
            if self.fill().ok()? == 0 {
                return None;
            }
        }
    }

    /// How the connection ends: `None` for an orderly end, else the kind of error.
    pub(crate) fn end(&mut self) -> Option<ErrorKind> {
        loop {
            match self.fill() {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.kind()),
            }
        }
    }

    /// Writes; false when the proxy is gone.
    pub(crate) fn write(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).is_ok()
    }

    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Bytes that were read behind what was asked for.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Sends back what comes, to the end, and ends then.
    pub(crate) fn echo(mut self) {
        loop {
            let bytes = std::mem::take(&mut self.buffer);
            if !self.write_bytes(&bytes) || !matches!(self.fill(), Ok(1..)) {
                return;
            }
        }
    }

    pub(crate) fn close(self) {
        self.stream.shutdown(Shutdown::Both).unwrap_or_default();
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let len = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..len]);
        Ok(len)
    }
}
