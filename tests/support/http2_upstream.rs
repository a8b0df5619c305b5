//! A server of HTTP/2 that writes any frame it is told to, one thread per connection; and one that speaks it well.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    fields, frame,
};

/// `:status: 200`, from the static table (RFC 7541, A).
const OK: [u8; 1] = [0x88];
const ACK: u8 = 1;

/// A listening server.
pub(crate) struct FrameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// Kinds and payloads of what came that was no SETTINGS, PING or WINDOW_UPDATE.
    log: Mutex<Vec<Came>>,
}

/// One connection from the proxy, its preface and SETTINGS read and answered.
pub(crate) struct FrameConnection {
    pub(crate) stream: TcpStream,
    /// Which connection of this server it is, from 1.
    pub(crate) number: usize,
    shared: Arc<Shared>,
}

/// A frame that came.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl FrameServer {
    /// Runs `script` for every connection, after SETTINGS with these payload bytes.
    pub(crate) fn scripted(
        settings: &'static [u8],
        script: impl Fn(FrameConnection) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let number = accepting.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (script, shared) = (Arc::clone(&script), Arc::clone(&accepting));
                thread::spawn(move || {
                    if let Some(connection) =
                        FrameConnection::open(stream, number, shared, settings)
                    {
                        script(connection);
                    }
                });
            }
        });
        Self { address, shared }
    }

    /// Answers every request with 200 and this body.
    pub(crate) fn answering(settings: &'static [u8], body: &'static [u8]) -> Self {
        Self::scripted(settings, move |mut connection| {
            while let Some(stream) = connection.request() {
                connection.answer(stream, body);
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

    /// Frames of this kind that came.
    pub(crate) fn came(&self, kind: u8) -> Vec<Came> {
        let log = self.shared.log.lock().expect("nobody panicked");
        log.iter()
            .filter(|came| came.kind == kind)
            .cloned()
            .collect()
    }
}

impl FrameConnection {
    fn open(
        stream: TcpStream,
        number: usize,
        shared: Arc<Shared>,
        settings: &[u8],
    ) -> Option<Self> {
        let mut connection = Self {
            stream,
            number,
            shared,
        };
        let mut preface = [0; 24];
        connection.stream.read_exact(&mut preface).ok()?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        connection.send(SETTINGS, 0, 0, settings);
        Some(connection)
    }

    /// Writes a frame; false once the proxy has ended.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let bytes = frame(kind, flags, stream, payload);
        self.stream.write_all(&bytes).is_ok()
    }

    /// The next frame, SETTINGS and PING answered; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Came> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, w, x, y, z] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([w, x, y, z]);
        let came = Came {
            kind,
            flags,
            stream,
            payload,
        };
        if matches!(kind, SETTINGS | PING) && flags & ACK == 0 {
            let echo = if kind == PING { &came.payload[..] } else { &[] };
            self.send(kind, ACK, 0, echo);
        }
        if !matches!(kind, SETTINGS | PING | WINDOW_UPDATE) {
            let mut log = self.shared.log.lock().expect("nobody panicked");
            log.push(came.clone());
        }
        if kind == HEADERS {
            self.shared.requests.fetch_add(1, Ordering::SeqCst);
        }
        Some(came)
    }

    /// The next frame of this kind; `None` at the end.
    pub(crate) fn find(&mut self, kind: u8) -> Option<Came> {
        loop {
            let came = self.next()?;
            if came.kind == kind {
                return Some(came);
            }
        }
    }

    /// The stream of the next request that came whole. Windows are opened for what was read.
    pub(crate) fn request(&mut self) -> Option<u32> {
        loop {
            let came = self.next()?;
            if came.kind == DATA && !came.payload.is_empty() {
                let len = u32::try_from(came.payload.len()).expect("a frame");
                self.send(WINDOW_UPDATE, 0, 0, &len.to_be_bytes());
                if came.flags & END_STREAM == 0 {
                    self.send(WINDOW_UPDATE, 0, came.stream, &len.to_be_bytes());
                }
            }
            if matches!(came.kind, HEADERS | DATA) && came.flags & END_STREAM != 0 {
                return Some(came.stream);
            }
        }
    }

    /// 200 with this body.
    pub(crate) fn answer(&mut self, stream: u32, body: &[u8]) -> bool {
        self.send(HEADERS, END_HEADERS, stream, &OK) && self.send(DATA, END_STREAM, stream, body)
    }

    /// The head of a 200 with these fields.
    pub(crate) fn head(&mut self, stream: u32, more: &[(&str, &str)]) -> bool {
        let mut block = OK.to_vec();
        block.extend(fields(more));
        self.send(HEADERS, END_HEADERS, stream, &block)
    }

    /// The same, and nothing after it.
    pub(crate) fn only_head(&mut self, stream: u32, more: &[(&str, &str)]) -> bool {
        let mut block = OK.to_vec();
        block.extend(fields(more));
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block)
    }

    pub(crate) fn trailers(&mut self, stream: u32, trailers: &[(&str, &str)]) -> bool {
        let flags = END_HEADERS | END_STREAM;
        self.send(HEADERS, flags, stream, &fields(trailers))
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> bool {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    pub(crate) fn go_away(&mut self, last: u32, code: u32) -> bool {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend(code.to_be_bytes());
        self.send(GOAWAY, 0, 0, &payload)
    }
}
